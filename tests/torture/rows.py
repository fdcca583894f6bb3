"""Which test stands for which fault: the numbered rows of the engine's and the lake's faults.

``test_rows.py`` holds that each of these tests is there; ``make torture`` runs them all, whichever
suite they belong to, and ``docs/torture.md`` says how each ended.
"""

from __future__ import annotations

from dataclasses import dataclass

_POINTS = "torture/test_points.py::test_every_row_is_there_once_whatever_point_it_was_killed_at"
_ENGINE = "torture/test_engine.py::test_"
_LAKE = "torture/test_lake.py::test_"
_CRASH = "acceptance/test_crash.py::test_"
_TAKEOVER = "acceptance/test_takeover.py::test_"
_KEEPING = "store/lake/test_crashes.py::test_what_is_killed_while_it_keeps_a_lake_leaves_it_whole"
_SWEEP = "store/lake/test_sweep.py::test_"
_LEASE = "store/lake/test_lease.py::test_"
_OVERTAKING = "store/lake/test_overtaking.py::test_"
_BUCKET = "store/lake/test_bucket.py::test_"
_REST = "store/lake/test_rest.py::test_"
_OBJECTS = "conformance/test_lake_objects.py::test_"
_SCRUB = "store/lake/test_scrub.py::test_"
_BAD_INPUT = "acceptance/test_bad_input.py::test_"
_DISK = "acceptance/test_lake_faults.py::test_"
_HOT = "store/test_hot.py::test_"
_COPY = "capture/test_copying.py::test_"
_LOG = "capture/test_log.py::test_"
_LAYOUTS = "capture/test_layouts.py::test_"
_LARGE = "capture/test_large_transactions.py::test_"
_LINES = "sources/postgres/test_bad_lines.py::test_"
_VALUES = "sources/postgres/test_hostile_values.py::test_"
_FAILOVER = "capture/test_failover.py::test_"
_DRILL = "torture/test_drill.py::test_a_full_drill_loses_and_doubles_nothing"


def _at(*points: str) -> tuple[str, ...]:
    return tuple(f"{_POINTS}[{point}]" for point in points)


def _at_in_a_bucket(*points: str) -> tuple[str, ...]:
    return tuple(f"{_POINTS}_with_a_lake_in_a_bucket[{point}]" for point in points)


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, and the tests that commit it: names below ``tests``, with a case or without.

    ``note`` says where Upwell's answer is not word for word the one that the fault asks for.
    """

    number: int
    fault: str
    tests: tuple[str, ...]
    note: str = ""


ROWS = (
    Row(1, "kill -9 after reading the log, before any write", _at("engine.batch_read")),
    Row(2, "kill -9 in the middle of a data file", _at("lake.file_half_written")),
    Row(3, "kill -9 after a data file, before its fsync", _at("lake.file_before_fsync")),
    Row(
        4,
        "kill -9 after a data file's fsync, before the commit",
        (
            *_at("lake.file_written", "lake.snapshot_written", "lake.before_commit"),
            *_at_in_a_bucket("lake.object_before_put"),
            f"{_SWEEP}what_a_crash_left_goes_and_what_is_not_ours_stays",
            "property/test_lake.py::test_what_a_crash_leaves_is_swept_in_the_end",
        ),
    ),
    Row(
        5,
        "kill -9 between a commit and the source's acknowledgement",
        (
            *_at("lake.after_commit", "lake.table_flushed", "lake.round_ended"),
            *_at_in_a_bucket("lake.after_commit", "lake.table_flushed"),
        ),
    ),
    Row(
        6,
        "kill -9 after the acknowledgement",
        (
            *_at("engine.acknowledged"),
            f"{_CRASH}a_hot_store_that_is_gone_twenty_times_comes_back_each_time",
        ),
        "the hot store commits before the lake, so it is never behind an acknowledgement; what is "
        "acknowledged and lost with the hot store comes back from the lake",
    ),
    Row(
        7,
        "kill -9 in the middle of a version's transaction",
        (
            *_at("engine.batch_ingested", "engine.models_refreshed"),
            *_at("store.before_commit", "store.after_commit"),
            f"{_HOT}a_process_killed_while_committing_leaves_whole_versions",
            f"{_CRASH}nothing_is_lost_or_doubled_when_killed_thirty_times[engine]",
        ),
    ),
    Row(
        8,
        "kill -9 during a checkpoint",
        (
            *_at("store.before_checkpoint", "store.after_checkpoint"),
            f"{_ENGINE}a_store_whose_process_is_killed_while_folding_opens_with_its_last_version",
        ),
    ),
    Row(
        9,
        "kill -9 while models run",
        (
            *_at("start.model_built", "engine.models_refreshed"),
            *_at("lake.publication_written", "lake.publication_committed"),
            f"{_ENGINE}a_board_shows_the_last_whole_version_while_the_next_one_is_made_and_lost",
            f"{_CRASH}nothing_is_lost_or_doubled_when_killed_thirty_times[web]",
        ),
    ),
    Row(
        10,
        "kill -9 in a compaction, before its commit",
        (
            *_at("lake.compaction_written", "lake.fold_written"),
            f"{_KEEPING}[lake.compaction_written]",
            f"{_KEEPING}[lake.fold_written]",
        ),
    ),
    Row(
        11,
        "kill -9 in a compaction, after its commit",
        (
            *_at("lake.compaction_committed", "lake.fold_committed"),
            f"{_KEEPING}[lake.compaction_committed]",
            f"{_KEEPING}[lake.fold_committed]",
            f"{_SWEEP}a_held_snapshot_can_be_read_until_the_grace_ends",
        ),
    ),
    Row(
        12,
        "kill -9 while snapshots and files are forgotten",
        (
            *_at("lake.file_swept"),
            f"{_KEEPING}[lake.file_swept]",
            f"{_SWEEP}what_a_kept_snapshot_names_stays_however_long",
            "property/test_lake.py::test_a_lake_lives_long",
        ),
    ),
    Row(
        13,
        "kill -9 while tables are read for the first time",
        (
            *_at("copy.begun", "copy.planned", "copy.part_stored"),
            f"{_COPY}a_reading_that_was_stopped_goes_on_where_it_was",
        ),
    ),
    Row(
        14,
        "kill -9 between the reading and the first version of it",
        _at("start.source_begun", "copy.prepared", "copy.settled"),
    ),
    Row(
        15,
        "kill -9 in a transaction of a million rows",
        (
            f"{_ENGINE}of_a_transaction_of_a_million_rows_all_are_visible_or_none",
            f"{_LARGE}all_of_it_is_seen_or_nothing",
            f"{_LARGE}an_engine_that_ends_in_the_middle_takes_it_in_when_it_is_back",
        ),
    ),
    Row(
        18,
        "kill -9 while our own layout changes",
        (
            f"{_ENGINE}a_store_of_another_format_is_made_anew_however_often_that_is_killed",
            f"{_HOT}a_store_of_another_format_is_set_aside",
            "acceptance/test_upgrade.py::test_what_an_older_upwell_wrote_is_gone_on_with",
        ),
        "nothing is migrated: a hot store of another format, older or newer, is set aside and made "
        "anew from the lake; a lake has had one format so far",
    ),
    Row(
        19,
        "kill -9 twice in a row during recovery",
        (_POINTS, *_at("rebuild.table_restored", "rebuild.ledger_written"), _DRILL),
    ),
    Row(
        20,
        "SIGTERM under load",
        (
            f"{_ENGINE}told_to_end_under_load_it_ends_in_time_with_everything_durable_and_acknowledged",
            f"{_LEASE}a_bucket_has_one_holder_and_the_next_begins_at_once_after_a_clean_end",
        ),
        "the supervisor waits ten seconds for its processes, not 115",
    ),
    Row(
        21,
        "a writer is frozen, another takes over, the first wakes",
        (
            f"{_TAKEOVER}a_frozen_engine_is_replaced_and_ends_when_it_wakes",
            f"{_OVERTAKING}the_first_writer_is_told_by_which_epoch_and_writes_nothing_more",
            f"{_OVERTAKING}whenever_the_first_stops_between_two_steps_rows_are_there_once",
        ),
        "it ends with exit 3",
    ),
    Row(
        22,
        "two engines start at once on one lake",
        (
            f"{_LAKE}of_two_engines_that_start_at_once_one_writes_and_the_other_says_who_it_is",
            f"{_TAKEOVER}a_second_run_on_the_same_lake_says_who_holds_it",
            f"{_OVERTAKING}of_writers_that_begin_at_once_the_last_one_alone_can_go_on",
            f"{_LEASE}of_two_that_find_it_expired_one_takes_it",
        ),
        "the other one ends with exit 3 and says who holds the lake; it serves no reads",
    ),
    Row(
        23,
        "two writers whose clocks are ten minutes apart",
        (
            f"{_TAKEOVER}a_frozen_engine_is_replaced_and_ends_when_it_wakes[600]",
            f"{_TAKEOVER}a_frozen_engine_is_replaced_and_ends_when_it_wakes[-600]",
            f"{_LEASE}a_lease_that_nobody_renews_is_taken_after_its_time_on_ones_own_clock",
        ),
    ),
    Row(
        24,
        "one project is run twice on one machine",
        (
            f"{_BAD_INPUT}a_second_run_of_the_same_project_is_refused",
            f"{_HOT}a_project_is_run_once_at_a_time",
            f"{_HOT}a_store_that_another_process_holds_is_refused_as_locked",
        ),
    ),
    Row(
        25,
        "storage or catalog did it, and the reply is lost",
        (
            f"{_BUCKET}what_passes_is_waited_out_and_a_file_is_written_once",
            f"{_REST}a_commit_whose_answer_suffered_is_found_to_be_done",
            f"{_REST}a_commit_that_lands_after_its_writer_gave_up_counts_once",
            f"{_REST}a_round_over_a_line_that_keeps_breaking_is_made_once",
            f"{_LEASE}a_write_whose_answer_was_lost_is_known_as_ones_own",
        ),
    ),
    Row(
        26,
        "storage and catalog answer 503 for a while",
        (
            f"{_LAKE}while_a_bucket_refuses_everything_the_rest_goes_on_and_nothing_is_lost",
            f"{_LEASE}a_bucket_in_trouble_costs_no_lease",
        ),
        "under a minute instead of five; an engine that has to start meanwhile is started again "
        "until it can, and ends the run with exit 3 only where it had not worked before",
    ),
    Row(
        29,
        "what is read is cut short or has a wrong bit",
        (
            f"{_BUCKET}a_body_that_suffered_once_is_read_again",
            f"{_BUCKET}a_file_whose_content_stays_wrong_is_named_and_not_given",
            f"{_OBJECTS}a_file_that_is_not_what_its_name_says_is_named_and_never_given",
            "store/lake/test_compaction.py::test_a_damaged_file_is_never_merged",
            "test_rebuild.py::test_a_damaged_file_is_named_and_no_store_is_left_that_looks_whole",
        ),
    ),
    Row(
        34,
        "the source is restarted at once (immediate)",
        (f"{_FAILOVER}a_source_that_is_restarted_at_once_under_load_loses_and_doubles_nothing",),
    ),
    Row(
        35,
        "a standby takes over that has the slot",
        (
            f"{_FAILOVER}a_promoted_standby_that_has_the_slot_is_gone_on_with",
            f"{_FAILOVER}what_is_known_of_the_standby_is_told_and_nothing_else",
            f"{_FAILOVER}what_was_read_of_a_table_and_never_was_there_is_read_again",
        ),
    ),
    Row(
        36,
        "a standby takes over that has no slot",
        (f"{_FAILOVER}a_promoted_standby_without_the_slot_stops_the_source_until_resync",),
    ),
    Row(
        37,
        "a standby takes over that is behind what was read",
        (
            f"{_FAILOVER}a_promoted_standby_that_is_behind_stops_the_source_and_the_range_is_named",
            "test_engine.py::test_in_a_log_that_begins_anew_nothing_of_another_is_acknowledged",
        ),
        "the range is one of positions in the log; the change logs name its rows",
    ),
    Row(
        38,
        "the slot is given up by the server (max_slot_wal_keep_size)",
        (
            f"{_FAILOVER}a_slot_that_the_server_gave_up_stops_the_source_until_resync",
            f"{_LOG}while_we_are_down_the_source_keeps_no_more_than_its_cap_and_nothing_is_missing",
        ),
    ),
    Row(
        39,
        "the slot is dropped by somebody",
        ("capture/test_resync.py::test_after_the_log_was_lost_only_what_differs_is_read",),
    ),
    Row(
        40,
        "the slot is held by another consumer",
        (f"{_FAILOVER}a_slot_that_another_follows_is_waited_for_and_says_who_it_is",),
    ),
    Row(
        41,
        "the source is restored from a backup",
        (f"{_FAILOVER}a_restored_backup_stops_the_source_and_is_never_taken_for_the_same",),
        "files put back as they were (the same timeline) that have been written past our position "
        "before Upwell connects again cannot be told from a server that was never away",
    ),
    Row(
        42,
        "another database answers at the source's address",
        (
            (
                "sources/postgres/test_refusals.py::"
                "test_another_database_under_the_same_address_is_refused"
            ),
        ),
    ),
    Row(
        43,
        "the source is idle while others write to its server",
        (f"{_LOG}an_idle_source_beside_a_busy_neighbour_keeps_little",),
        "64 MB written instead of a day's",
    ),
    Row(
        44,
        "we are down while the source writes",
        (
            f"{_LOG}while_we_are_down_the_source_keeps_no_more_than_its_cap_and_nothing_is_missing",
            f"{_LOG}a_log_that_is_too_long_is_given_up_and_what_differs_is_read",
        ),
        "twice the cap is written; the cap is the server's own while nobody is there to watch",
    ),
    Row(
        45,
        "the line to the source is dead at the other end",
        (
            f"{_LINES}a_line_that_is_dead_and_looks_alive_is_given_up_and_all_goes_on",
            f"{_LINES}a_message_that_trickles_in_is_not_waited_for",
        ),
    ),
    Row(
        46,
        "the line to the source breaks again and again",
        (f"{_LINES}a_line_that_breaks_again_and_again_loses_and_doubles_nothing",),
    ),
    Row(
        47,
        "the source's certificate is another one",
        ("sources/postgres/test_tls.py::test_who_is_not_trusted_is_refused_with_the_reason",),
    ),
    Row(
        48,
        "tables are altered under load",
        (
            f"{_LAYOUTS}a_column_is_added",
            f"{_LAYOUTS}a_column_becomes_another",
            f"{_LAYOUTS}a_key_becomes_another",
            f"{_LARGE}a_table_is_altered_within_it",
            "torture/test_alters.py::test_tables_are_altered_while_the_shop_is_busy",
        ),
    ),
    Row(
        49,
        "TRUNCATE, partitions, moved keys, another replica identity, values that are not sent",
        (
            f"{_COPY}a_table_is_read_while_it_changes",
            "property/test_copied.py::test_a_copy_beside_its_stream_is_the_source",
            (
                "sources/postgres/test_stream.py::"
                "test_a_truncation_stands_between_the_changes_around_it"
            ),
            (
                "sources/postgres/test_stream.py::"
                "test_a_table_with_a_wider_replica_identity_is_followed_by_its_key"
            ),
            ("capture/test_partitions.py::test_what_the_log_does_not_tell_of_partitions_is_found"),
            "capture/test_partitions.py::test_partitions_change_while_the_table_is_read",
        ),
    ),
    Row(
        50,
        "a table without a key",
        (
            f"{_BAD_INPUT}a_table_without_a_key_is_refused_and_the_shop_left_alone",
            f"{_LAYOUTS}a_table_that_lost_its_key_stands_still_and_comes_back",
        ),
        "refused with every replica identity",
    ),
    Row(
        51,
        "bytes that are no text, NaN, infinite dates, values of 100 MB, 4713 BC",
        (
            f"{_VALUES}the_stream_gives_what_the_source_has",
            f"{_VALUES}the_copy_gives_what_the_source_has",
            f"{_VALUES}times_beyond_what_is_stored_are_refused",
            (
                "sources/postgres/test_large_values.py::"
                "test_a_value_of_100_mb_takes_a_few_times_its_size"
            ),
        ),
    ),
    Row(
        52,
        "numbers of more than 38 digits",
        (
            f"{_VALUES}what_a_decimal_cannot_hold_is_refused_by_name_and_never_lost",
            (
                "sources/postgres/test_numerics.py::"
                "test_a_numeric_of_very_many_digits_is_written_out_or_in_short"
            ),
        ),
    ),
    Row(
        53,
        "the lake's disk is full",
        (f"{_DISK}a_full_disk_under_the_lake_is_said_and_rounds_go_on_when_there_is_room",),
    ),
    Row(
        54,
        "the hot store's disk is full",
        (
            f"{_BAD_INPUT}a_full_disk_is_told_and_nothing_is_lost",
            f"{_HOT}a_full_disk_is_named_with_the_way_out",
            "serve/reader/test_confined.py::test_a_statement_is_stopped_at_its_limit_of_memory",
        ),
        "a user's statement never spills, it is stopped at its limit and nothing else ends; where "
        "the engine itself finds no room the run ends with exit 3, names the disk, and reads again "
        "what was not committed",
    ),
    Row(
        57,
        "fsync fails with EIO",
        (
            f"{_ENGINE}an_engine_whose_disk_refuses_to_sync_ends_at_once_and_reads_again",
            "store/lake/test_folder.py::test_a_failing_fsync_ends_the_process_at_once",
        ),
        "this is the lake's fsync; that of the hot store is DuckDB's own",
    ),
    Row(
        62,
        "the wall clock jumps",
        (
            f"{_ENGINE}whatever_the_clock_on_the_wall_says_order_stays_and_nothing_is_deleted_early",
            f"{_SWEEP}a_clock_that_goes_back_deletes_nothing_early",
            "store/lake/test_retention.py::test_the_cut_off_is_in_the_time_of_the_source",
        ),
    ),
    Row(
        63,
        "a metadata file, manifest list or manifest is missing",
        (
            f"{_LAKE}a_lake_with_a_gap_in_its_own_records_is_refused_by_name_and_nothing_is_skipped",
            f"{_SCRUB}metadata_that_cannot_be_read_is_damage",
            f"{_SWEEP}nothing_goes_while_a_table_cannot_be_read",
            f"{_SWEEP}nothing_goes_after_the_catalog_went_back_in_time",
        ),
        "nobody reads such a table, not even up to the gap, until the file is back",
    ),
    Row(
        64,
        "a data file is missing or has no bytes",
        (
            f"{_LAKE}a_data_file_that_is_lost_is_named_and_restored_from_what_is_known",
            f"{_SCRUB}a_damaged_file_is_named_with_what_it_held",
            f"{_SCRUB}rows_that_are_still_logged_are_written_again",
            f"{_SCRUB}what_is_no_longer_logged_is_restored_as_a_sum",
        ),
    ),
    Row(
        66,
        "the hot store's file is damaged",
        (
            f"{_ENGINE}a_store_that_is_damaged_under_load_is_made_anew",
            f"{_HOT}a_damaged_file_is_set_aside_and_a_new_one_made",
            f"{_HOT}damage_that_shows_only_when_it_is_read_sets_the_file_aside_for_the_next_start",
        ),
    ),
    Row(
        67,
        "the catalog's file is half written",
        (f"{_LAKE}of_a_catalog_that_was_half_written_the_version_before_is_used",),
    ),
    Row(
        68,
        "a lake of a newer format",
        (
            f"{_LAKE}a_lake_of_a_newer_upwell_is_refused_and_left_as_it_is",
            f"{_LAKE}a_table_of_a_newer_iceberg_is_refused",
        ),
    ),
)


def stands_for(named: str, test: str) -> bool:
    """Whether a test, by pytest's id of it, is one that a row names."""
    return test == f"tests/{named}" or test.startswith(f"tests/{named}[")
