"""One simulated cohort in the forms in which users have their tables. Times in months, 1 = event observed."""

import json

import numpy as np
import pandas as pd

PATIENTS = 80


def cohort():
    """(clinical, genes, slides) in canonical form: follow-up of years, 40 % events, earlier than the censorings."""
    generator = np.random.default_rng(3)
    ids = sorted(f"TCGA-A{n % 7}-{n:04d}" for n in range(PATIENTS))
    event = (np.arange(PATIENTS) % 5 < 2).astype(int)
    months = np.where(event == 1, generator.uniform(2, 40, PATIENTS), generator.uniform(20, 120, PATIENTS))
    clinical = pd.DataFrame(
        {
            "patient_id": ids, "site": [name[5:7] for name in ids], "age": generator.integers(35, 85, PATIENTS),
            "is_female": np.arange(PATIENTS) % 2, "subtype": np.where(np.arange(PATIENTS) % 3, "ductal", "lobular"),
            "time_months": np.round(months, 2), "event": event,
        }
    )  # fmt: skip
    genes = pd.DataFrame(np.round(generator.gamma(2, 2, (PATIENTS, 12)), 3), columns=[f"GENE{n}" for n in range(12)])
    genes.insert(0, "patient_id", ids)
    slides = pd.DataFrame({"patient_id": ids, "slide_id": [f"{name}-01Z-00-DX1" for name in ids]})
    return clinical, genes, slides


def canonical(folder):
    clinical, genes, slides = cohort()
    return write(folder, clinical, genes, slides)


def write(folder, clinical, genes, slides, **form):
    for name, table in {"clinical": clinical, "genes": genes, "slides": slides}.items():
        table.to_csv(folder / f"{name}.csv", index=False, **form)
    return ["--clinical", "clinical.csv", "--expression", "genes.csv", "--slides", "slides.csv"]


def windows(folder, encoding="utf-8-sig"):
    """A German spreadsheet: semicolons, decimal commas, CRLF, a byte order mark, its own names and words."""
    clinical, genes, slides = cohort()
    names = {"patient_id": "Patient", "site": "Klinik", "age": "Alter", "subtype": "Histologie"}
    table = clinical.rename(columns=names).drop(columns=["is_female", "time_months", "event"])
    table["Geschlecht"] = clinical["is_female"].map({1: "weiblich", 0: "männlich"})
    table["OS Monate"] = clinical["time_months"]
    table["Status"] = clinical["event"].map({1: "verstorben", 0: "lebt"})
    table["Größe cm"] = clinical["age"] / 20
    return write(folder, table, genes, slides, sep=";", decimal=",", encoding=encoding, lineterminator="\r\n")


def windows_1252(folder):
    """The same without a byte order mark, in the code page of Windows in Western Europe."""
    return windows(folder, "cp1252")


def in_days(folder):
    """Times in days under a name without a unit; 1 alive and 2 dead, as in R; genes in rows."""
    clinical, genes, slides = cohort()
    days = (clinical["time_months"] * 30.4375).round().astype(int)
    clinical = clinical.drop(columns="time_months").assign(time=days, status=clinical["event"] + 1)
    turned = genes.set_index("patient_id").T.rename_axis("gene").reset_index()
    return write(folder, clinical.drop(columns="event"), turned, slides)


def gdc_tsv(folder):
    """The clinical.tsv of a GDC cart: prefixed names, '-- for missing values, one row per treatment."""
    clinical, genes, slides = cohort()
    days = (clinical["time_months"] * 30.4375).round().astype(int).astype(str)
    is_dead = clinical["event"] == 1
    table = pd.DataFrame(
        {
            "cases.submitter_id": clinical["patient_id"],
            "demographic.gender": clinical["is_female"].map({1: "female", 0: "male"}),
            "demographic.vital_status": is_dead.map({True: "Dead", False: "Alive"}),
            "demographic.days_to_death": days.where(is_dead, "'--"),
            "diagnoses.days_to_last_follow_up": days.where(~is_dead, "'--"),
            "diagnoses.age_at_diagnosis": (clinical["age"] * 365.25).round().astype(int),
            "diagnoses.primary_diagnosis": clinical["subtype"],
        }
    )
    table = pd.concat([table, table]).sort_values("cases.submitter_id")
    arguments = write(folder, clinical, genes, slides)
    table.to_csv(folder / "clinical.tsv", index=False, sep="\t")
    return ["--clinical", "clinical.tsv", *arguments[2:]]


def gdc_json(folder):
    """The clinical JSON of a GDC cart, and STAR counts with their sample sheet."""
    clinical, genes, slides = cohort()
    write(folder, clinical, genes, slides)
    cases, sheet = [], ["File ID\tFile Name\tCase ID\tSample ID\tSample Type"]
    (folder / "star").mkdir()
    for row, values in zip(clinical.to_dict("records"), genes.drop(columns="patient_id").to_numpy(), strict=True):
        days = round(row["time_months"] * 30.4375)
        dead = {"vital_status": "Dead", "days_to_death": days} if row["event"] else {"vital_status": "Alive"}
        sex = {"gender": "female" if row["is_female"] else "male"}
        diagnosis = {"primary_diagnosis": row["subtype"], "age_at_diagnosis": row["age"] * 365}
        diagnosis |= {} if row["event"] else {"days_to_last_follow_up": days}
        cases.append({"submitter_id": row["patient_id"], "demographic": dead | sex, "diagnoses": [diagnosis]})
        sheet.append(f"id\t{row['patient_id']}.tsv\t{row['patient_id']}\t{row['patient_id']}-01A\tPrimary Tumor")
        lines = ["gene_id\tgene_name\tunstranded\ttpm_unstranded"]
        lines += [f"ENSG{n}.1\tGENE{n}\t{int(value)}\t{value}" for n, value in enumerate(values)]
        (folder / "star" / f"{row['patient_id']}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "star/gdc_sample_sheet.tsv").write_text("\n".join(sheet) + "\n")
    (folder / "clinical.json").write_text(json.dumps(cases))
    return ["--clinical", "clinical.json", "--expression", "star", "--slides", "slides.csv"]


def two_endpoints(folder):
    """OS as 1 and 2 in days, relapses as 0 and 1 in months and 10 patients without: (flags, truth of the relapses)."""
    clinical, genes, slides = cohort()
    relapse = clinical[["patient_id"]].assign(
        event=(np.arange(PATIENTS) % 4 < 2).astype(int), time_months=np.round(clinical["time_months"] * 0.7, 2)
    )
    table = clinical.drop(columns=["time_months", "event"]).assign(
        OS_days=(clinical["time_months"] * 30.4375).round().astype(int), OS_status=clinical["event"] + 1,
        DFI_months=relapse["time_months"].astype(str).where(relapse.index >= 10, ""), DFI=relapse["event"],
        PFI=relapse["event"],
    )  # fmt: skip
    return write(folder, table, genes, slides), relapse[10:]


FORMS = {
    "windows": windows,
    "windows_1252": windows_1252,
    "in_days": in_days,
    "gdc_tsv": gdc_tsv,
    "gdc_json": gdc_json,
    "canonical": canonical,
}
