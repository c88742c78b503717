"""Called by hatchling: the README with absolute links, as package indexes need them."""

from __future__ import absolute_import

from hatchling.metadata.plugin.interface import MetadataHookInterface


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata):
        # Imported here, as hatchling on Python 2.7 drops this module's globals before the call.
        import os
        import sys

        sys.path.append(os.path.join(self.root, "docs"))
        import links

        text = links.absolute_readme(self.root, metadata["urls"]["Source"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
