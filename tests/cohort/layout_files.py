"""Small files in each layout of source tables, written for the tests of this package."""


def write_files(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def patient_rows(patients):
    """The canonical columns as plain tuples; times to six decimals."""
    columns = ["patient_id", "site", "age", "is_female", "subtype", "time_months", "event"]
    return [
        tuple(round(v, 6) if isinstance(v, float) else v for v in row)
        for row in patients[columns].astype({"is_female": float}).itertuples(index=False, name=None)
    ]


MCAT = """,case_id,slide_id,site,is_female,oncotree_code,age,survival_months,censorship,t,AAK1_rnaseq,TP53_mut,MYC_cnv
0,TCGA-3C-AALI,TCGA-3C-AALI-01Z-00-DX1.F6.svs,3C,1,IDC,50,131.57,1,1.0,-0.25,0,1
1,TCGA-3C-AALI,TCGA-3C-AALI-01Z-00-DX2.CF.svs,3C,1,IDC,50,131.57,1,1.0,-0.25,0,1
2,TCGA-4H-AAAK,TCGA-4H-AAAK-01Z-00-DX1.AB.svs,4H,0,ILC,,11.5,0,0.0,2.5,1,-2
"""


CBIOPORTAL = {
    "data_clinical_patient.txt": (
        "#Patient Identifier\tAge\tSex\tOverall Survival (Months)\tOverall Survival Status\n"
        "#STRING\tNUMBER\tSTRING\tNUMBER\tSTRING\n"
        "PATIENT_ID\tAGE\tSEX\tOS_MONTHS\tOS_STATUS\tDFS_MONTHS\tDFS_STATUS\n"
        "TCGA-05-4244\t70\tMale\t0.0\t0:LIVING\t\t\n"
        "TCGA-05-4249\t67\tMale\t50.03\t0:LIVING\t50.03\t0:DiseaseFree\n"
        "TCGA-05-4250\t79\tFemale\t3.98\t1:DECEASED\t2.0\t1:Recurred/Progressed\n"
        "TCGA-18-3406\t67\tMale\t12.19\t[Not Available]\t12.19\t0:DiseaseFree\n"
    ),
    "data_clinical_sample.txt": (
        "#Patient Identifier\tSample Identifier\n"
        "PATIENT_ID\tSAMPLE_ID\tONCOTREE_CODE\n"
        "TCGA-05-4244\tTCGA-05-4244-01\tLUAD\n"
        "TCGA-05-4249\tTCGA-05-4249-01\tLUAD\n"
        "TCGA-05-4250\tTCGA-05-4250-01\tLUAD\n"
        "TCGA-18-3406\tTCGA-18-3406-01\tLUSC\n"
    ),
    "data_mrna.txt": (
        "Hugo_Symbol\tEntrez_Gene_Id\tTCGA-05-4249-01\tTCGA-05-4250-01\tTCGA-05-4250-11\tTCGA-05-4250-02\tTCGA-18-3406-01\n"
        "TP53\t7157\t1.5\t2.5\t9\t8\t3.5\n"
        "\t100133144\t0\t0\t0\t0\t0\n"
        "EGFR\t1956\t-1\t\t9\t8\t0.25\n"
        "TP53\t7157\t7\t7\t7\t7\t7\n"
    ),
}


XENA = {
    "clinical/BRCA_clinicalMatrix": (
        "sampleID\tage_at_initial_pathologic_diagnosis\tgender\thistological_type\ttissue_source_site\n"
        "TCGA-3C-AAAU-01\t55\tFEMALE\tInfiltrating Lobular Carcinoma\t3C\n"
        "TCGA-3C-AALI-01\t50\tMALE\tInfiltrating Ductal Carcinoma\t3C\n"
        "TCGA-3C-AALI-11\t50\tMALE\tInfiltrating Ductal Carcinoma\t3C\n"
    ),
    "clinical/BRCA_survival.txt": (
        "sample\t_PATIENT\tOS\tOS.time\tPFI\tPFI.time\n"
        "TCGA-3C-AAAU-01\tTCGA-3C-AAAU\t0\t4047\t1\t1808\n"
        "TCGA-3C-AALI-01\tTCGA-3C-AALI\t1\t365.25\t0\t365.25\n"
        "TCGA-3C-AALI-11\tTCGA-3C-AALI\t1\t365.25\t0\t365.25\n"
    ),
    "HiSeqV2": (
        "sample\tTCGA-3C-AALI-11\tTCGA-3C-AALI-01\tTCGA-3C-AAAU-01\nARHGEF10L\t9.0\t9.25\t8.5\nHIF3A\t1.0\t2.5\t3.75\n"
    ),
}


GDC_CASES = [
    {
        "submitter_id": "TCGA-BH-A0B3",
        "project": {"project_id": "TCGA-BRCA"},
        "tissue_source_site": {"code": "BH"},
        "demographic": {"gender": "female", "vital_status": "Alive", "days_to_death": None},
        "diagnoses": [
            {
                "age_at_diagnosis": 19358,
                "days_to_last_follow_up": 1203,
                "primary_diagnosis": "Infiltrating duct carcinoma, NOS",
            }
        ],
    },
    {
        "submitter_id": "TCGA-D8-A1JG",
        "project": {"project_id": "TCGA-BRCA"},
        "tissue_source_site": {"code": "D8"},
        "demographic": {"gender": "male", "vital_status": "Dead", "days_to_death": 1612},
        "diagnoses": [
            {"age_at_diagnosis": None, "days_to_last_follow_up": 1600, "primary_diagnosis": "Lobular carcinoma, NOS"}
        ],
    },
]


SAMPLE_SHEET = (
    "File ID\tFile Name\tData Category\tProject ID\tCase ID\tSample ID\tSample Type\n"
    "id-1\ta.tsv\tTranscriptome Profiling\tTCGA-BRCA\tTCGA-BH-A0B3\tTCGA-BH-A0B3-01A\tPrimary Tumor\n"
    "id-2\tb.tsv\tTranscriptome Profiling\tTCGA-BRCA\tTCGA-D8-A1JG\tTCGA-D8-A1JG-01B\tPrimary Tumor\n"
    "id-3\tc.tsv\tTranscriptome Profiling\tTCGA-BRCA\tTCGA-BH-A0B3\tTCGA-BH-A0B3-11A\tSolid Tissue Normal\n"
)


def star_file(first, second):
    return (
        "# gene-model: GENCODE v36\n"
        "gene_id\tgene_name\tgene_type\tunstranded\ttpm_unstranded\n"
        "N_unmapped\t\t\t100\t\n"
        f"ENSG00000000003.15\tTSPAN6\tprotein_coding\t{first}\t3.0\n"
        f"ENSG00000000005.6\tTNMD\tprotein_coding\t{second}\t0.0\n"
        "ENSG00000182378.15_PAR_Y\tTNMD\tprotein_coding\t7\t7\n"
    )
