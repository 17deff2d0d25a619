"""Folders and tables to image files with labels, splits and groups; a message for each way to get them wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headstart.features.dataset.folder import image_files
from headstart.features.dataset.sources import ImageFile, Source, SourceOptions, read_source
from headstart.features.errors import UserError
from tests.conftest import raises


def folder(root: Path, *names: str) -> str:
    """Empty files: no pixel is read here."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(root)


def table(root: Path, text: str, encoding: str = "utf-8") -> str:
    root.mkdir(parents=True, exist_ok=True)
    (root / "images.csv").write_text(text, encoding=encoding, newline="")
    return str(root / "images.csv")


def rows(source: Source) -> list[tuple[str, str, str]]:
    return [(image.key, image.labels[0], image.split) for image in source.images]


def test_a_folder_of_classes(tmp_path: Path) -> None:
    source = read_source(folder(tmp_path, "dog/2.jpg", "cat/1.png", "cat/deep/er/3.jpg"))
    assert rows(source) == [("cat/1.png", "cat", ""), ("cat/deep/er/3.jpg", "cat", ""), ("dog/2.jpg", "dog", "")]
    assert source.class_names == ("cat", "dog")
    assert not source.has_splits and not source.has_groups and source.left_out == 0
    assert source.images[1] == ImageFile("cat/deep/er/3.jpg", str(tmp_path / "cat/deep/er/3.jpg"), ("cat",))


def test_a_folder_of_splits(tmp_path: Path) -> None:
    source = read_source(folder(tmp_path, "train/cat/1.jpg", "train/dog/deep/1.jpg", "val/cat/1.jpg", "test/dog/1.jpg"))
    assert rows(source) == [
        ("test/dog/1.jpg", "dog", "test"),
        ("train/cat/1.jpg", "cat", "train"),
        ("train/dog/deep/1.jpg", "dog", "train"),
        ("val/cat/1.jpg", "cat", "validation"),
    ]
    assert source.has_splits


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "VAL", "Valid", "Validation", "DEV"])
def test_the_names_of_the_validation_split(tmp_path: Path, name: str) -> None:
    source = read_source(folder(tmp_path, "Train/cat/1.jpg", f"{name}/dog/1.jpg"))
    assert {image.split for image in source.images} == {"train", "validation"}


def test_a_class_beside_the_splits_makes_them_classes(tmp_path: Path) -> None:
    source = read_source(folder(tmp_path, "train/a/1.jpg", "test/a/1.jpg", "plane/1.jpg"))
    assert source.class_names == ("plane", "test", "train") and not source.has_splits


def test_the_layout_can_be_said(tmp_path: Path) -> None:
    path = folder(tmp_path, "train/1.jpg", "test/1.jpg")
    assert read_source(path, SourceOptions(layout="class")).class_names == ("test", "train")
    with pytest.raises(UserError, match="holds images right in test, train: if those are classes, say --layout class"):
        read_source(path)
    with pytest.raises(UserError, match=r"--layout split: the top folders must be named .* not 'extra'"):
        read_source(folder(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "extra/a/1.jpg"), SourceOptions(layout="split"))


def test_hidden_files_and_leftovers_are_passed_over(tmp_path: Path) -> None:
    names = (".DS_Store", "cat/.hidden.jpg", "cat/Thumbs.db", "dog/desktop.ini", ".git/1.jpg", "__MACOSX/cat/1.jpg")
    source = read_source(folder(tmp_path, "cat/1.jpg", "dog/1.jpg", *names))
    assert [image.key for image in source.images] == ["cat/1.jpg", "dog/1.jpg"]
    assert source.left_out == 0


def test_files_outside_class_folders_are_counted(tmp_path: Path) -> None:
    assert read_source(folder(tmp_path / "a", "cat/1.jpg", "dog/1.jpg", "readme.txt", "stray.jpg")).left_out == 2
    assert read_source(folder(tmp_path / "b", "train/cat/1.jpg", "test/dog/1.jpg", "train/stray.jpg", "x.txt")).left_out == 2


def test_links_that_go_round_come_to_an_end(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", "cat/1.jpg", "dog/1.jpg")
    folder(tmp_path / "out", "1.jpg", "2.jpg")
    (tmp_path / "in/cat/root").symlink_to(tmp_path / "in")
    (tmp_path / "in/cat/self").symlink_to(tmp_path / "in/cat")
    (tmp_path / "in/dog/more").symlink_to(tmp_path / "out")
    (tmp_path / "out/back").symlink_to(tmp_path / "in/dog")
    assert [image.key for image in read_source(path).images] == ["cat/1.jpg", "dog/1.jpg", "dog/more/1.jpg", "dog/more/2.jpg"]


def test_a_link_to_a_folder_that_holds_all_is_not_followed(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "in/dog/up").symlink_to(tmp_path)
    assert len(read_source(path).images) == len(read_source(f"{path}/").images) == 2


def test_a_folder_linked_twice_is_read_in_each_place(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", "train/cat/1.jpg", "train/dog/1.jpg", "test/dog/2.jpg")
    folder(tmp_path / "out", "1.jpg")
    for name in ("train/bird", "test/bird"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "out")
    (tmp_path / "in/test/cat").symlink_to("../train/cat")
    keys = [image.key for image in read_source(path).images]
    assert keys == ["test/bird/1.jpg", "test/cat/1.jpg", "test/dog/2.jpg", "train/bird/1.jpg", "train/cat/1.jpg",
                    "train/dog/1.jpg"]  # fmt: skip


def test_a_link_does_not_take_a_folder_out_of_its_class(tmp_path: Path) -> None:
    path = folder(tmp_path, "cat/1.jpg", "dog/puppies/1.jpg", "dog/2.jpg")
    (tmp_path / "cat/link").symlink_to(tmp_path / "dog/puppies")
    assert ("dog/puppies/1.jpg", "dog", "") in rows(read_source(path))


def test_names_beyond_ascii(tmp_path: Path) -> None:
    source = read_source(folder(tmp_path, "ねこ/日本.jpg", "Hündchen/ä b.jpg"))
    assert source.class_names == ("Hündchen", "ねこ")
    assert [image.key for image in source.images] == ["Hündchen/ä b.jpg", "ねこ/日本.jpg"]


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    folder(tmp_path, "cat/1.jpg", "dog/1.jpg")
    with open(os.fsencode(tmp_path) + b"/cat/\xff.jpg", "wb"):
        pass
    source = read_source(str(tmp_path))
    assert source.images[1].key == "cat/\udcff.jpg" and os.path.exists(source.images[1].path)


def test_image_files_of_a_folder(tmp_path: Path) -> None:
    path = folder(tmp_path, "b.jpg", "a/c.jpg", ".hidden", "a/notes.txt")
    images, others, unlisted = image_files(path)
    assert images.values() == [str(tmp_path / "b.jpg"), str(tmp_path / "a/c.jpg")]
    assert others.values() == [str(tmp_path / "a/notes.txt")] and not unlisted


def test_a_file_that_is_no_image_by_name_and_content_is_left_out_and_counted(tmp_path: Path) -> None:
    path = folder(
        tmp_path, "cat/1.jpg", "cat/damaged.HEIC", "cat/notes.txt", "dog/1.jpg", "dog/empty", "docs/read.me", "x.txt"
    )
    (tmp_path / "dog/nameless").write_bytes(b"\xff\xd8\xff\xe0 and so on")
    (tmp_path / "dog/link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "dog/link.jpg").symlink_to(tmp_path / "nowhere")
    source = read_source(path)
    assert [i.key for i in source.images] == ["cat/1.jpg", "cat/damaged.HEIC", "dog/1.jpg", "dog/link.jpg", "dog/nameless"]
    assert source.no_images.values() == ["cat/notes.txt", "docs/read.me", "dog/empty", "dog/link"] and source.left_out == 1
    assert source.class_names == ("cat", "dog")
    assert source.notes == [
        "1 files stand outside any class folder and are left out",
        "4 files are no images and are left out, such as cat/notes.txt",
    ]
    assert read_source(path, SourceOptions(group_by=r"^[^/]+")).no_images.values() == source.no_images.values()


def test_what_a_table_lists_is_never_left_out(tmp_path: Path) -> None:
    folder(tmp_path, "notes.txt")
    assert len(read_source(table(tmp_path, "path,label\nnotes.txt,cat\ngone,dog\n")).images) == 2


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that refuses to be listed, to root too."""
    path, scandir = folder(tmp_path / "in", "cat/1.jpg", "cat/locked/2.jpg", "dog/1.jpg"), os.scandir

    def refusing(at: str) -> object:
        if os.path.basename(at) == "locked":
            raise PermissionError(13, "Permission denied", at)
        return scandir(at)

    monkeypatch.setattr(os, "scandir", refusing)
    return path


def test_a_folder_that_cannot_be_listed_is_an_error(locked: str) -> None:
    with pytest.raises(UserError, match=r"the folder '.*cat/locked' can't be listed .Permission denied.*: make it readable"):
        read_source(locked)
    images, _, (error,) = image_files(locked)
    assert len(images) == 2 and error.filename.endswith("cat/locked")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_of_mode_000_is_an_error(tmp_path: Path) -> None:
    path = folder(tmp_path, "cat/1.jpg", "cat/locked/2.jpg", "dog/1.jpg")
    (tmp_path / "cat/locked").chmod(0)
    try:
        with raises("bad-input"):
            read_source(path)
    finally:
        (tmp_path / "cat/locked").chmod(0o755)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_table_with_another_delimiter(tmp_path: Path, mark: str) -> None:
    text = 'path,label,note\n"a,b;c.jpg",cat,x\n2.jpg,dog,y\n'.replace(",", mark).replace(f"a{mark}b", "a,b")
    source = read_source(table(tmp_path, text))
    assert rows(source) == [("a,b;c.jpg", "cat", ""), ("2.jpg", "dog", "")]
    with pytest.raises(UserError, match=r"no column 'file' .*It has: path, label, note"):
        read_source(str(tmp_path / "images.csv"), SourceOptions(image_column="file"))


def test_a_table(tmp_path: Path) -> None:
    source = read_source(table(tmp_path, "path,label,extra\nx/1.jpg,cat,?\n./y//2.jpg,dog,?\n/abs/3.jpg,dog,?\n"))
    assert rows(source) == [("x/1.jpg", "cat", ""), ("y/2.jpg", "dog", ""), ("/abs/3.jpg", "dog", "")]
    assert source.images[0].path == str(tmp_path / "x/1.jpg") and source.images[2].path == "/abs/3.jpg"
    assert not source.has_splits and not source.has_groups


def test_a_table_with_splits_and_groups(tmp_path: Path) -> None:
    source = read_source(table(tmp_path, "path,label,split,group\n1.jpg,cat,train,g\n2.jpg,dog,Val,\n3.jpg,dog,holdout,\n"))
    assert [image.split for image in source.images] == ["train", "validation", "holdout"]
    assert [image.group for image in source.images] == ["g", "", ""]
    assert source.has_splits and source.has_groups


def test_a_table_with_columns_of_other_names(tmp_path: Path) -> None:
    text = 'file,breed,fold,owner\n"a, b.jpg",cat,train,ann\nc.jpg,dog,test,bob\n'
    options = SourceOptions(image_column="file", label_column="breed", split_column="fold", group_column="owner")
    source = read_source(table(tmp_path, text), options)
    assert source.images[0] == ImageFile("a, b.jpg", str(tmp_path / "a, b.jpg"), ("cat",), "train", "ann")


def test_a_table_with_a_byte_order_mark(tmp_path: Path) -> None:
    source = read_source(table(tmp_path, "path,label\r\nä.jpg,cat\r\n2.jpg,dog\r\n", "utf-8-sig"))
    assert rows(source) == [("ä.jpg", "cat", ""), ("2.jpg", "dog", "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paths,label\n1.jpg,a\n", r"no column 'path' .--image_column.\. Did you mean paths\? It has: paths, label"),
        ("path,Labels\n1.jpg,a\n", r"no column 'label' .--label_column.\. Did you mean Labels\?"),
        ("", "no column 'path'"),
        ("path,label\n", "lists no images: it has no rows below its header"),
        ("path,label\n\n1.jpg,a\n\n\n2.jpg,\n", "line 6: the column 'label' is empty"),
        ("path,circle,square\n1.jpg,1,0\n", r"It looks like a column for each class \(circle, square\).*--label_delimiter"),
        ("path,label\n1.jpg,\n", r"the column 'label' is empty.*where some have none, or several: --label_delimiter"),
        ("path,label\n1.jpg,a\n2.jpg,b\n./1.jpg,a\n", r"lists '.*1.jpg' more than once .1 paths in all."),
        ("path,label\n1.jpg,a\n2.jpg,\n", "line 3: the column 'label' is empty"),
        ("path,label\n1.jpg,a\n2.jpg\n", "line 3: the column 'label' is empty"),
        ("path,label\n1.jpg,a\n  ,b\n", "line 3: the column 'path' is empty"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,\n", "gives a split for 1 of 2 rows"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,../x\n", "line 3: a split's name is made of letters, digits and _"),
        ("path,label\n1.jpg,a\n2.jpg,a\n", "one class only .'a'.: a classifier needs two or more"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_source(table(tmp_path, text))


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_bytes(b"path,label\n\xff\xfe.jpg,a\n")
    with raises("bad-input"):
        read_source(str(tmp_path / "images.csv"))


def test_groups_come_from_the_key(tmp_path: Path) -> None:
    path = folder(tmp_path, "cat/ann_1.jpg", "cat/ann_2.jpg", "dog/bob_1.jpg")
    in_parentheses = read_source(path, SourceOptions(group_by=r"/([^/_]+)_"))
    assert [image.group for image in in_parentheses.images] == ["ann", "ann", "bob"] and in_parentheses.has_groups
    whole = read_source(path, SourceOptions(group_by=r"[a-z]+_"))
    assert [image.group for image in whole.images] == ["ann_", "ann_", "bob_"]


def test_a_pattern_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path, "cat/ann_1.jpg", "dog/bob.jpg")
    with pytest.raises(UserError, match=r"finds no group in the key 'dog/bob.jpg': it must match every key"):
        read_source(path, SourceOptions(group_by=r"(\w+)_"))
    with raises("bad-flag"):
        read_source(path, SourceOptions(group_by="("))


def test_one_class_no_class_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: give a folder of images or a CSV table"):
        read_source(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"holds no images: expected .*/CLASS/image.jpg"):
        read_source(str(tmp_path))
    with raises("bad-input"):
        read_source(folder(tmp_path, "cat/1.jpg"))
    assert read_source(str(tmp_path), least_classes=1).class_names == ("cat",)
    with pytest.raises(UserError, match=r"holds no class folders, only 2 files: expected .*/CLASS/image.jpg"):
        read_source(folder(tmp_path / "flat", "1.jpg", "2.jpg"))


def test_a_parquet_table_is_read_as_a_csv_table_is(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "path": ["1.jpg", "2.jpg", "3.jpg"],
        "label": [3, 5, 5],
        "split": ["train", "val", None],
        "other": [0.5, 1.0, 2.0],
    }
    pq.write_table(pa.table({**columns, "split": ["train", "val", "test"]}), tmp_path / "photos.parquet")
    source = read_source(str(tmp_path / "photos.parquet"))
    assert [(image.key, image.labels, image.split) for image in source.images] == [
        ("1.jpg", ("3",), "train"), ("2.jpg", ("5",), "validation"), ("3.jpg", ("5",), "test")
    ]  # fmt: skip
    assert source.images[0].path == str(tmp_path / "1.jpg")
    pq.write_table(pa.table({**columns, "label": [3, None, 5]}), tmp_path / "photos.parquet")
    with pytest.raises(UserError, match="row 2: the column 'label' is empty"):
        read_source(str(tmp_path / "photos.parquet"))
    (tmp_path / "photos.parquet").write_text("path,label\n")
    with pytest.raises(UserError, match="is no Parquet file"):
        read_source(str(tmp_path / "photos.parquet"))
