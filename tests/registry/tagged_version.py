"""A registry in memory with one version, for approvals and signatures."""

from types import SimpleNamespace


class Client:
    """The tags of one version."""

    def __init__(self):
        tags = {"mcti.digest": "d1", "mcti.evaluation_md5": "e1", "mcti.registered_by": "rita"}
        self.version = SimpleNamespace(name="m", version="3", tags=tags)

    def set_model_version_tag(self, name, number, key, value):
        assert (name, number) == ("m", "3")
        self.version.tags[key] = value
