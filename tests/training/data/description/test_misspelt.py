"""Labels that may be misspelt are named, and words that merely look alike are not."""

from __future__ import annotations

import random

import pytest

from limpet.training.data.description.misspelt import misspelt_labels

SETS = {
    "bbc-news": "business entertainment politics sports tech",
    "reuters-r8": "acq crude earn grain interest money-fx ship trade",
    "reuters-90": "acq alum barley bop carcass castor-oil cocoa coconut coconut-oil coffee copper copra-cake corn "
    "cotton cotton-oil cpi cpu crude dfl dlr dmk earn fuel gas gnp gold grain groundnut groundnut-oil heat hog "
    "housing income instal-debt interest ipi iron-steel jet jobs l-cattle lead lei lin-oil livestock lumber "
    "meal-feed money-fx money-supply naphtha nat-gas nickel nkr nzdlr oat oilseed orange palladium palm-oil "
    "palmkernel pet-chem platinum potato propane rand rape-oil rapeseed reserves retail rice rubber rye ship silver "
    "sorghum soy-meal soy-oil soybean strategic-metal sugar sun-meal sun-oil sunseed tea tin trade veg-oil wheat wpi",
    "20newsgroups": "alt.atheism comp.graphics comp.os.ms-windows.misc comp.sys.ibm.pc.hardware "
    "comp.sys.mac.hardware comp.windows.x misc.forsale rec.autos rec.motorcycles rec.sport.baseball "
    "rec.sport.hockey sci.crypt sci.electronics sci.med sci.space soc.religion.christian talk.politics.guns "
    "talk.politics.mideast talk.politics.misc talk.religion.misc comp.sys.mac comp.sys.ibm",
    "samples of two labels": "HillaryClinton realDonaldTrump fresh rotten",
    "emotions": "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment "
    "disapproval disgust embarrassment excitement fear gratitude grief joy love nervousness optimism pride "
    "realization relief remorse sadness surprise neutral",
    "banking": "card_arrival card_linking card_swallowed change_pin exchange_charge exchange_rate failed_transfer "
    "get_physical_card getting_spare_card getting_virtual_card lost_or_stolen_card lost_or_stolen_phone "
    "order_physical_card pending_card_payment pending_cash_withdrawal pending_top_up pending_transfer top_up_failed "
    "top_up_reverted transfer_fee_charged transfer_timing unable_to_verify_identity verify_my_identity "
    "verify_source_of_funds verify_top_up why_verify_identity",
    "tags": "O B-PER I-PER B-ORG I-ORG B-LOC I-LOC B-MISC I-MISC",
    "opposites": "pos neg win wine winner legal illegal moral immoral typical atypical import export increase "
    "decrease male female positive negative very_positive very_negative internal external active inactive",
    "numbers": "1 2 10 level_1 level_2 class-a class-b version1 version2 q1-2024 q1-2025",
}


@pytest.mark.parametrize("labels", SETS.values(), ids=SETS)
def test_labels_of_real_data_are_not_taken_for_misspelt_however_rare_some_are(labels: str) -> None:
    draw = random.Random(0)
    for _ in range(5):
        assert misspelt_labels({label: draw.choice((1, 10, 1000)) for label in labels.split()}) == []


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("techincal", "technical"),
        ("biling", "billing"),
        ("billling", "billing"),
        ("delivary", "delivery"),
        ("entretainmnet", "entertainment"),
        ("Techincal", "technical"),
        ("order_delivrey", "order_delivery"),
        ("crad_arrival", "card_arrival"),
        ("B-PRODCUT", "B-PRODUCT"),
    ],
)
def test_a_rare_label_that_is_a_misspelling_away_is_named_with_the_one_that_is_meant(
    misspelt: str, meant: str
) -> None:
    others = {"account": 90, "refund": 50, meant: 200}
    assert misspelt_labels({misspelt: 5, **others}) == [(misspelt, meant)]
    assert misspelt_labels({misspelt: 150, **others}) == []


def test_the_commonest_of_several_labels_is_meant() -> None:
    assert misspelt_labels({"sports": 100, "sporst": 1, "sport": 3}) == [("sporst", "sports"), ("sport", "sports")]
