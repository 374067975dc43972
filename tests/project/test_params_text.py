"""params.yaml as text. Oracle: the loader of the settings."""

from mcti import params
from mcti.project import params_text


def test_the_text_has_every_section_the_values_their_meaning_and_the_reasons(tmp_path):
    settings = {
        "ingest": {"name": "x", "columns": {"subtype": "Größe: a"}, "event_values": {"yes": 1, "no": 0}},
        "extract": {"source": "import", "import": {"format": "pt", "path": "a b", "encoder": "unknown",
                                                   "mpp": "unknown", "patch_size": 256}},
        "train": {"architecture": {"covariates": ["age"]}},
    }  # fmt: skip
    text = params_text.render(settings, {"ingest.event_values": "yes = observed\n(3)"})
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    read = params.load(tmp_path / "params.yaml")
    assert read.ingest.columns == {"subtype": "Größe: a"}
    assert read.ingest.event_values == {"yes": 1, "no": 0}
    assert read.extract.import_.patch_size == 256
    assert "# yes = observed (3)\n" in text
    assert "# name of the cohort\n" in text
    sections = [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert sections == [field.alias or name for name, field in params.Settings.model_fields.items()]
