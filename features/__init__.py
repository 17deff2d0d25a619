"""What a feature is, and what every command needs: spec, configuration, errors, files, progress, Ctrl-C, quiet libraries.

In its rooms: images, backbones, engines, the dataset, the store.

May import none of the other packages.
"""
