import dataclasses

from mcti.dataset.sources import NO_TRANSFER, Transfer
from mcti.model.prior import Prior
from mcti.redaction import hashed
from mcti.training import folds
from mcti.training.transfer_record import transfer_digests, transfer_record
from tests.training import factories

COHORT = {"name": "luad", "endpoint": "OS", "expression_scale": "log2"}
PRIOR = Prior("pan-cancer", "3", "d" * 64, {}, {}, frozenset({hashed("X-2"), hashed("X-1")}), COHORT)


def source():
    return dataclasses.replace(factories.dataset(10, seed=4), cohort=COHORT)


def test_without_sources_and_prior_nothing_is_added():
    assert transfer_digests(NO_TRANSFER) == {}
    assert transfer_record(NO_TRANSFER) == {}


def test_the_record_of_a_source_counts_its_patients_events_shared_genes_and_slides():
    data = source()
    aligned = data.with_genes(("g0", "absent", "g4"))
    [record] = transfer_record(Transfer((aligned,)))["sources"]
    bags = factories.bags(10, seed=4)
    assert record == COHORT | {
        "digest": aligned.version,
        "events": sum(bag.event for bag in bags),
        "genes": 3,
        "shared_genes": 2,
        "slides": 10,
        "patients": sorted(hashed(bag.patient_id) for bag in bags),
    }


def test_the_record_of_a_prior_names_version_digest_and_hashed_patients():
    expected = {"name": "pan-cancer", "version": "3", "digest": "d" * 64, "cohort": COHORT}
    assert transfer_record(Transfer(prior=PRIOR)) == {"prior": expected | {"patients": sorted(PRIOR.patients)}}


def test_the_identity_of_a_fold_depends_on_the_contents_of_sources_and_prior_and_not_on_their_addresses():
    data = factories.dataset()
    bags = list(data.bags.values())

    def identity(transfer=NO_TRANSFER, **changes):
        return folds.identify(data, bags[:16], bags[16:], factories.settings(**changes), 0, transfer)

    plain = identity()
    assert set(plain["digests"]) == {"train", "test", "names", "code"}
    assert not {"sources", "prior"} & plain["params"].keys()
    assert identity(sources=[{"cohort": "elsewhere"}], prior="models:/pan-cancer@champion") == plain
    identities = [identity(Transfer((source(),))), identity(Transfer((factories.dataset(10, seed=5),)))]
    identities += [identity(Transfer(prior=PRIOR)), identity(Transfer((source(),), PRIOR))]
    assert all(one != other for i, one in enumerate([plain, *identities]) for other in identities[i:])
