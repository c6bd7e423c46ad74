"""What a user of fault injection can rely on: labels name exactly what differs, and a class does what it says."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.errors import ContractViolation, InvalidInput
from vprism_pipelines.providers.faults import FAULTS, LABELS, RUN, Faults
from vprism_pipelines.providers.simulated import Exchange

KEY = ["symbol", "session"]
PRICES = ["open", "high", "low", "close"]
NUMBERS = [*PRICES, "volume", "value"]
FIELDS = [*NUMBERS, "currency"]
TRUTH = Exchange(3, 40, date(2021, 1, 4), date(2023, 12, 29)).bars()


def restored(faulty: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """The true bars (key and `FIELDS`), from the faulty ones and nothing but what the labels say."""
    wide = labels.select(
        "symbol",
        "session",
        "seen_session",
        "fault",
        *(
            pl.when(pl.col("field") == name)
            .then("original" if name in NUMBERS else "original_text")
            .alias(f"true_{name}")
            for name in FIELDS
        ),
        *((pl.col("field") == name).alias(f"wrong_{name}") for name in FIELDS),
        gone=pl.col("seen_session").is_null(),
    )
    by_bar = wide.group_by("symbol", "session", "seen_session", "fault").agg(
        *(pl.col(f"true_{name}").drop_nulls().first() for name in FIELDS),
        *(pl.col(f"wrong_{name}").any() for name in FIELDS),
        pl.col("gone").first(),
    )
    once = faulty.unique(maintain_order=True)
    fixed = once.rename({"session": "seen_session"}).join(
        by_bar.filter(~pl.col("gone")), on=["symbol", "seen_session"], how="left"
    )
    known = fixed.select(
        "symbol",
        pl.coalesce("session", "seen_session").alias("session"),
        *(
            pl.when(pl.col(f"wrong_{name}").fill_null(value=False)).then(f"true_{name}").otherwise(name).alias(name)
            for name in FIELDS
        ),
    )
    gone = by_bar.filter("gone").select(*KEY, *(pl.col(f"true_{name}").alias(name) for name in FIELDS))
    schema = {name: dtype for name, dtype in faulty.schema.items() if name in [*KEY, *FIELDS]}
    return pl.concat([known, gone.select(known.columns)], how="vertical_relaxed").cast(schema).sort(KEY)  # type: ignore[arg-type]


def differences(truth: pl.DataFrame, faulty: pl.DataFrame) -> set[tuple[str, date]]:
    """True bars that are not in the faulty frame exactly once, as they are."""
    seen = faulty.select(*KEY, *FIELDS)
    whole = seen.filter(~pl.struct(seen.columns).is_duplicated())
    return set(
        truth.select(*KEY, *FIELDS).join(whole, on=[*KEY, *FIELDS], how="anti", nulls_equal=True).select(KEY).rows()
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**70),
    rate=st.floats(0.0005, 0.2),
    classes=st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, unique=True),
    symbols=st.integers(1, 40),
    days=st.integers(2, 1090),
)
def test_the_labels_name_exactly_the_bars_that_differ_and_restore_them(
    seed: int, rate: float, classes: list[str], symbols: int, days: int
) -> None:
    names = TRUTH["symbol"].unique().sort().head(symbols)
    until = date(2021, 1, 4) + timedelta(days)
    truth = TRUTH.filter(pl.col("symbol").is_in(names.implode()), pl.col("session") <= until)
    faulty, labels = Faults(seed, rate, tuple(classes)).inject(truth)
    assert faulty.schema == truth.schema
    assert labels.schema == LABELS
    assert set(labels.select(KEY).rows()) == differences(truth, faulty)
    fixed = restored(faulty, labels)
    assert fixed.equals(truth.select(fixed.columns).sort(KEY))
    assert labels.group_by(KEY).agg(pl.col("fault").n_unique())["fault"].unique().to_list() in ([], [1])
    assert labels.select(pl.struct(*KEY, "field").is_unique().all()).item()


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_class_happens_at_about_the_rate_asked_for(name: str) -> None:
    _, labels = Faults(9, 0.01, (name,)).inject(TRUTH)
    share = labels.select(KEY).n_unique() / TRUTH.height
    assert share == pytest.approx(0.01, rel=0.15)
    assert labels["fault"].unique().to_list() == [name]


def test_all_classes_share_the_rate() -> None:
    _, labels = Faults(2, 0.05).inject(TRUTH)
    by_class = dict(labels.group_by("fault").agg(pl.struct(KEY).n_unique()).iter_rows())
    assert set(by_class) == set(FAULTS)
    assert sum(by_class.values()) / TRUTH.height == pytest.approx(0.05, rel=0.1)
    assert max(by_class.values()) < 2 * min(by_class.values())


def test_faults_do_not_touch_each_other() -> None:
    _, labels = Faults(2, 0.1).inject(TRUTH)
    position = TRUTH.sort(KEY).select(*KEY, place=pl.int_range(pl.len()).over("symbol"))
    marked = labels.select(*KEY, "fault").unique().join(position, on=KEY).sort("symbol", "place")
    before = marked.with_columns(pl.col("place", "fault").shift(1).over("symbol").name.suffix("_before"))
    beside = before.filter(pl.col("place") - pl.col("place_before") == 1)
    assert beside.height > RUN
    assert beside.filter(pl.col("fault") != pl.col("fault_before")).is_empty()
    assert beside.filter(~pl.col("fault").is_in([name for name, fault in FAULTS.items() if fault.run])).is_empty()


def damaged(name: str) -> pl.DataFrame:
    """True bars of one class beside what is seen of them."""
    faulty, labels = Faults(4, 0.02, (name,)).inject(TRUTH)
    where = labels.select(*KEY, "seen_session").unique()
    seen = where.join(faulty.rename({"session": "seen_session"}), on=["symbol", "seen_session"], how="left")
    return TRUTH.join(seen, on=KEY, suffix="_seen").sort(KEY)


def test_a_scaled_bar_keeps_its_shape_volume_and_value() -> None:
    for name, factor in (("scale_1.2", 1.2), ("scale_0.9", 0.9), ("scale_1000", 1000.0)):
        pairs = damaged(name)
        assert pairs.height > 100
        assert (
            pairs.select(((pl.col(f"{p}_seen") / pl.col(p) / factor - 1).abs() < 1e-12).all() for p in PRICES).row(0)
            == (True,) * 4
        )
        assert pairs.filter(
            (pl.col("volume") != pl.col("volume_seen")) | (pl.col("value") != pl.col("value_seen"))
        ).is_empty()


def test_a_sign_fault_turns_one_price_and_a_swap_exchanges_high_and_low() -> None:
    signs = damaged("sign")
    negative = [pl.col(f"{p}_seen") == -pl.col(p) for p in PRICES]
    assert signs.select(pl.sum_horizontal(negative)).to_series().unique().to_list() == [1]
    assert all(signs.select(n.sum() for n in (e.alias(p) for e, p in zip(negative, PRICES, strict=True))).row(0))
    swaps = damaged("high_low_swap")
    assert swaps.filter((pl.col("high_seen") != pl.col("low")) | (pl.col("low_seen") != pl.col("high"))).is_empty()
    assert swaps.filter(pl.col("high_seen") >= pl.col("low_seen")).is_empty()


def test_a_stale_copy_is_the_bar_before() -> None:
    before = TRUTH.sort(KEY).with_columns(pl.col(NUMBERS).shift(1).over("symbol").name.suffix("_before"))
    pairs = damaged("stale_copy").join(before.select(*KEY, *(f"{n}_before" for n in NUMBERS)), on=KEY)
    assert pairs.filter(pl.any_horizontal(pl.col(f"{n}_seen") != pl.col(f"{n}_before") for n in NUMBERS)).is_empty()
    assert pairs.filter(pl.all_horizontal(pl.col(f"{n}_seen") == pl.col(n) for n in NUMBERS)).is_empty()


def test_a_missing_day_has_bars_around_it_and_a_duplicate_is_there_twice() -> None:
    faulty, labels = Faults(4, 0.02, ("missing_day",)).inject(TRUTH)
    gone = labels.select(KEY).unique()
    assert faulty.height == TRUTH.height - gone.height
    assert labels["seen_session"].null_count() == labels.height
    ends = TRUTH.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    inside = (pl.col("session") > pl.col("first")) & (pl.col("session") < pl.col("last"))
    assert gone.join(ends, on="symbol").filter(~inside).is_empty()
    faulty, labels = Faults(4, 0.02, ("duplicate",)).inject(TRUTH)
    twice = faulty.filter(pl.struct(faulty.columns).is_duplicated())
    assert set(twice.select(KEY).rows()) == set(labels.select(KEY).rows())
    assert (labels["field"].unique().to_list(), faulty.height - TRUTH.height) == (["row"], labels.height)


def test_a_date_shift_moves_a_page_of_bars_by_a_day_and_meets_no_other_bar() -> None:
    faulty, labels = Faults(4, 0.02, ("date_shift",)).inject(TRUTH)
    assert labels.height % RUN == 0
    assert labels.filter(pl.col("session") - pl.col("seen_session") != pl.duration(days=1)).is_empty()
    assert labels.filter(pl.col("original_text") != pl.col("session").cast(pl.String)).is_empty()
    assert faulty.select(pl.struct(KEY).is_unique().all()).item()


def test_a_volume_in_the_wrong_unit_is_off_by_a_power_of_ten() -> None:
    pairs = damaged("volume_unit").with_columns(ratio=pl.col("volume_seen") / pl.col("volume"))
    expected = [pl.col("ratio").is_between(factor * 0.5, factor * 1.01) for factor in (0.01, 0.1, 100.0, 1000.0)]
    counts = pairs.select(e.sum().alias(str(n)) for n, e in enumerate(expected)).row(0)
    assert min(counts) > 10
    assert sum(counts) == pairs.height


def test_split_and_dividend_faults_scale_the_run_before_an_ex_date_by_one_factor() -> None:
    for name, low, high in (("missed_split", 1.5, 10.0), ("double_split", 0.1, 1 / 1.5), ("wrong_dividend", 0.9, 0.99)):
        pairs = damaged(name).with_columns(ratio=pl.col("close_seen") / pl.col("close"))
        runs = pairs.group_by("symbol", (pl.int_range(pl.len()) // RUN).alias("run")).agg(
            pl.len(), spread=pl.col("ratio").max() / pl.col("ratio").min(), ratio=pl.col("ratio").first()
        )
        assert runs["len"].unique().to_list() == [RUN]
        assert runs.select(pl.col("spread").max()).item() == pytest.approx(1, abs=1e-12)
        assert low - 1e-9 <= runs["ratio"].min() <= runs["ratio"].max() <= high + 1e-9
        assert runs["ratio"].n_unique() > 2
        traded = pairs.filter(pl.col("volume") > 1_000)
        money = (pl.col("volume_seen") * pl.col("ratio") / pl.col("volume") - 1).abs()
        assert name == "wrong_dividend" or traded.select(money.max()).item() < 0.02, "shares move the other way"


def test_a_bar_in_progress_is_a_sound_bar_with_a_part_of_the_volume() -> None:
    pairs = damaged("in_progress")
    low, high, average = (pl.col(f"{n}_seen") for n in ("low", "high", "value"))
    average = average / pl.col("volume_seen")
    assert pairs.filter(
        (low > pl.min_horizontal("open_seen", "close_seen")) | (high < pl.max_horizontal("open_seen", "close_seen"))
    ).is_empty()
    assert pairs.filter((pl.col("low") > low) | (pl.col("high") < high)).is_empty(), "within what the day became"
    assert pairs.filter((average < low - 1e-6) | (average > high + 1e-6)).is_empty()
    part = pl.col("volume_seen") / pl.col("volume")
    assert pairs.filter((part > 0.7) | (part < 0)).is_empty()


def test_a_currency_switch_is_sometimes_announced() -> None:
    pairs = damaged("currency_switch")
    assert pairs.select((pl.col("close_seen") * 25_000 / pl.col("close") - 1).abs().max()).item() < 1e-9
    assert pairs.filter(pl.col("value_seen") >= pl.col("value")).is_empty()
    announced = pairs.select((pl.col("currency_seen") == "USD").mean()).item()
    assert announced == pytest.approx(0.5, abs=0.1)


def test_a_page_in_a_wrong_unit_is_off_by_one_factor_and_in_another_currency_it_says_so_throughout_or_never() -> None:
    # Rounding to whole shares hides the factor of small volumes.
    lots = damaged("volume_unit_run").filter(pl.col("volume") > 100_000)
    lots = lots.with_columns(power=(pl.col("volume_seen") / pl.col("volume")).log10().round(3))
    pages = damaged("currency_run").with_columns(announced=pl.col("currency_seen") != pl.col("currency"))
    for pairs, column, values in ((lots, "power", 4), (pages, "announced", 2)):
        runs = pairs.join(TRUTH.sort(KEY).select(*KEY, place=pl.int_range(pl.len()).over("symbol")), on=KEY)
        told = runs.group_by("symbol", pl.col("place") // RUN).agg(pl.col(column).n_unique())
        assert told[column].unique().to_list() == [1]
        assert pairs[column].n_unique() == values
    assert (pages.height % RUN, set(lots["power"].unique())) == (0, {-2.0, -1.0, 2.0, 3.0})


def test_the_damage_depends_on_the_seed_and_the_bars_not_on_their_order() -> None:
    one, labels = Faults(1, 0.05).inject(TRUTH)
    again, same = Faults(1, 0.05).inject(TRUTH.sample(fraction=1, shuffle=True, seed=7))
    assert one.equals(again)
    assert labels.equals(same)
    assert not Faults(2, 0.05).inject(TRUTH)[1].equals(labels)


def test_quiet_bars_and_other_columns_are_left_alone() -> None:
    singles = tuple(name for name, fault in FAULTS.items() if not fault.run)
    faulty, labels = Faults(1, 0.2, singles).inject(TRUTH)
    hit = TRUTH.join(labels.select(KEY).unique(), on=KEY, how="semi")
    assert hit.filter(pl.col("volume") == 0).is_empty()
    same = TRUTH.join(faulty.unique(KEY), on=KEY, suffix="_seen")
    assert same.filter(
        (pl.col("exchange") != pl.col("exchange_seen")) | (pl.col("reference") != pl.col("reference_seen"))
    ).is_empty()


def test_nothing_that_fits_means_nothing_is_damaged() -> None:
    empty = TRUTH.clear()
    assert Faults(1).inject(empty)[0].equals(empty)
    quiet = TRUTH.filter(pl.col("volume") == 0)
    faulty, labels = Faults(1, 0.1, ("volume_unit", "sign")).inject(quiet)
    assert faulty.equals(quiet.sort(KEY))
    assert labels.is_empty()


def test_senseless_recipes_and_bars_are_refused() -> None:
    for rate in (0.0, -0.1, 0.5, float("nan")):
        with pytest.raises(InvalidInput, match="cannot be damaged"):
            Faults(1, rate)
    for classes in ((), ("rot",), ("sign", "sign")):
        with pytest.raises(InvalidInput, match="no classes"):
            Faults(1, 0.01, classes)
    with pytest.raises(ContractViolation, match="lack currency"):
        Faults(1).inject(TRUTH.drop("currency"))
    with pytest.raises(ContractViolation, match="twice"):
        Faults(1).inject(pl.concat([TRUTH.head(3), TRUTH.head(1)]))


@pytest.mark.shared
def test_real_history_can_be_damaged_and_restored(shared_data: Path) -> None:
    file = shared_data / "vn_cafef_daily.parquet"
    if not file.is_file():
        pytest.skip("needs the CafeF history")
    numbers = {"open": "GiaMoCua", "high": "GiaCaoNhat", "low": "GiaThapNhat", "close": "GiaDongCua"}
    real = (
        pl.scan_parquet(file)
        .filter(pl.col("date") >= date(2020, 1, 1), pl.col("symbol").str.head(1).is_in(["F", "V"]))
        .select(
            pl.format("VN:STOCK:{}", "symbol").alias("symbol"),
            session="date",
            **{name: pl.col(theirs) * 1000 for name, theirs in numbers.items()},
            volume="KhoiLuongKhopLenh",
            value=pl.lit(None, dtype=pl.Float64),
            currency=pl.lit("VND"),
        )
        .collect()
        .unique(KEY, keep="first", maintain_order=True)
    )
    faulty, labels = Faults(1, 0.02).inject(real)
    assert set(labels["fault"]) == set(FAULTS)
    assert set(labels.select(KEY).rows()) == differences(real, faulty)
    assert restored(faulty, labels).select(*KEY, *FIELDS).equals(real.sort(KEY).select(*KEY, *FIELDS))
