"""The faults that hopd survives, and the tests that prove it: the register. tests/unit/test_fault_rows.py holds it to what there is.

A row says what is done to hopd and what must come of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A fault or bad input. `tests` are named FILE::TEST, below tests/."""

    fault: str
    outcome: str
    tests: tuple[str, ...]


ROWS: Mapping[int, Row] = {
    # --- broker and network ---------------------------------------------------------------------
    1: Row(
        "the broker is killed and started again",
        "running jobs run on, stale settlements are dropped and counted, recovery with full jitter and for ever",
        (
            "e2e/test_recovery.py::test_topics_come_back_as_they_were_wanted_when_the_broker_is_killed_stopped_and_frozen",
            "e2e/test_recovery.py::test_jobs_that_run_when_the_connection_goes_run_on_and_are_counted_as_lost",
            "e2e/test_restart.py::test_a_hundred_thousand_jobs_survive_a_broker_restart_a_stop_and_any_steering",
            "integration/test_recovery.py::test_a_broker_that_is_killed_and_started_again_costs_no_job",
            "fault/test_delayed_jobs.py::test_no_delayed_job_is_lost_when_the_broker_is_killed_under_load",
            "fault/test_cluster.py::test_any_node_of_a_cluster_may_be_killed_under_load",
            "unit/test_recovery.py::test_pauses_differ_so_that_a_fleet_does_not_come_back_as_one",
            "unit/test_recovery.py::test_a_link_that_must_never_give_up_does_not",
        ),
    ),
    2: Row(
        "the broker is stopped gracefully (320)",
        "the same: an ordinary loss",
        (
            "e2e/test_recovery.py::test_topics_come_back_as_they_were_wanted_when_the_broker_is_killed_stopped_and_frozen",
            "integration/test_recovery.py::test_a_connection_that_an_operator_closes_is_made_again",
        ),
    ),
    3: Row(
        "the broker refuses connections, has an unknown name, accepts and stays silent",
        "tried again; the status shows attempt and next try; the daemon is up and steerable",
        (
            "e2e/test_recovery.py::test_without_a_broker_the_daemon_is_up_and_says_when_it_tries_again",
            "e2e/test_recovery.py::test_a_broker_that_comes_late_is_found",
            "e2e/test_control_under_load.py::test_everything_but_putting_works_while_the_broker_is_away",
        ),
    ),
    4: Row(
        "the broker is back before one of its queues",
        "that topic backs off, the others run",
        (
            "fault/test_cluster.py::test_a_topic_whose_node_is_away_backs_off_and_the_others_run",
            "unit/test_consumer.py::test_a_topic_that_stays_refused_is_asked_for_more_and_more_seldom",
        ),
    ),
    5: Row(
        "the connection is closed by force two hundred times",
        "recovers each time; file descriptors, greenlets and memory do not grow",
        (
            "fault/test_leaks.py::test_two_hundred_forced_reconnects_leave_nothing_behind",
            "fault/test_leaks.py::test_done_jobs_leave_nothing_behind",
            "integration/test_recovery.py::test_connections_that_are_closed_again_and_again_leave_nothing_behind",
        ),
    ),
    6: Row(
        "the broker is frozen; the connection is half open",
        "noticed within the heartbeat and 5 s",
        (
            "e2e/test_recovery.py::test_topics_come_back_as_they_were_wanted_when_the_broker_is_killed_stopped_and_frozen",
            "fault/test_network.py::test_a_half_open_connection_is_noticed_and_replaced",
            "integration/test_connection.py::test_a_peer_that_is_gone_without_a_word_is_noticed_in_time",
        ),
    ),
    7: Row(
        "a reset, a cut in the middle of a frame, slices of one byte, a slow link",
        "recovered, or merely slow; never a wrong job body",
        (
            "fault/test_network.py::test_whatever_the_network_does_every_job_is_done_with_its_own_body",
            "fault/test_network.py::test_resets_in_the_middle_of_work_lose_nothing",
            "integration/test_connection.py::test_bytes_that_come_one_at_a_time_are_the_same_jobs",
            "integration/test_connection.py::test_a_connection_cut_in_the_middle_of_a_frame_never_gives_a_wrong_body",
            "unit/test_wire.py::test_any_split_of_any_frames_gives_the_same_events",
        ),
    ),
    8: Row(
        "a memory or disk alarm",
        "consumers go on; put fails at its deadline with BrokerBlocked; close is bounded; the status says blocked",
        (
            "fault/test_alarms.py::test_under_an_alarm_jobs_go_on_puts_fail_at_their_deadline_and_the_daemon_leaves_in_time",
            "integration/test_recovery.py::test_a_put_to_a_broker_under_an_alarm_says_so_at_its_deadline",
            "integration/test_recovery.py::test_many_puts_to_a_broker_under_an_alarm_say_so_too",
            "integration/test_recovery.py::test_the_status_says_that_the_broker_takes_nothing_and_why",
            "integration/test_recovery.py::test_jobs_are_pulled_and_settled_under_an_alarm",
            "integration/test_recovery.py::test_closing_under_an_alarm_ends_at_its_deadline",
        ),
    ),
    9: Row(
        "the broker closes a channel (406, consumer_timeout)",
        "only that topic reopens; later settlements of its old jobs are dropped",
        (
            "e2e/test_recovery.py::test_only_the_topic_whose_channel_was_closed_opens_a_new_one",
            "integration/test_connection.py::test_a_channel_that_the_broker_closes_is_lost_alone",
            "integration/test_pull.py::test_a_job_whose_channel_the_broker_closes_comes_again",
            "unit/test_consumer.py::test_a_job_that_ran_on_a_lost_channel_is_counted_as_lost",
        ),
    ),
    10: Row(
        "a queue is deleted under its consumer; the consumer is cancelled",
        "declared again, consuming again, logged",
        (
            "e2e/test_recovery.py::test_a_queue_that_is_deleted_is_declared_again_and_consumed",
            "integration/test_pull.py::test_a_pull_goes_on_when_its_queue_is_deleted",
        ),
    ),
    11: Row(
        "a queue exists with other arguments; 403, 404 or 405 on one queue",
        "used as it is with a warning; that topic has failed with a reason and is tried again slowly; the others run",
        (
            "e2e/test_recovery.py::test_a_queue_with_other_arguments_is_used_as_it_is_with_a_warning",
            "e2e/test_recovery.py::test_a_topic_the_broker_refuses_has_failed_with_the_reason_and_the_others_run",
            "e2e/test_recovery.py::test_a_consumer_the_broker_refuses_is_tried_again_until_it_is_not",
            "fault/test_cluster.py::test_a_topic_whose_node_is_away_backs_off_and_the_others_run",
            "integration/test_topology.py::test_a_queue_that_nobody_may_declare_is_a_refusal",
            "integration/test_topology.py::test_a_queue_that_another_has_for_itself_is_a_refusal",
        ),
    ),
    12: Row(
        "a bad password, a missing virtual host, a deleted user",
        "a clear reason, slow tries, the password never in a log or in the status",
        (
            "e2e/test_recovery.py::test_a_password_that_is_refused_is_the_reason_and_is_shown_nowhere",
            "fault/test_refused_users.py::test_a_user_who_is_deleted_is_told_as_the_reason_and_comes_back_when_it_is_there_again",
            "fault/test_refused_users.py::test_a_virtual_host_that_is_missing_is_told_as_the_reason",
        ),
    ),
    # --- handlers -------------------------------------------------------------------------------
    13: Row(
        "a handler raises anything: Exception, SystemExit, KeyboardInterrupt, GreenletExit, RecursionError, MemoryError",
        "the job fails, the daemon lives",
        (
            "e2e/test_failures.py::test_whatever_a_handler_does_its_job_is_buried_and_the_next_one_is_done",
            "unit/test_executor.py::test_whatever_a_handler_raises_fails_its_job_and_nothing_else",
        ),
    ),
    14: Row(
        "a handler hangs while yielding",
        "JobTimeout is raised in it, then it is killed; the slot is free again",
        (
            "e2e/test_timeouts.py::test_a_handler_that_hangs_gets_job_timeout_and_its_slot_is_free_again",
            "e2e/test_timeouts.py::test_a_handler_that_swallows_the_timeout_is_killed_and_its_slot_is_free_again",
            "unit/test_timeouts.py::test_a_worker_is_not_hit_for_a_job_that_ends_between_the_look_and_the_throw",
        ),
    ),
    15: Row(
        "a handler hogs the processor, or hangs in C",
        "reported with topic and stack within seconds; at the hard limit hopd leaves with 70",
        (
            "e2e/test_timeouts.py::test_a_handler_that_does_not_yield_is_reported_while_it_does_not",
            "e2e/test_timeouts.py::test_a_handler_that_never_yields_makes_hopd_leave_with_70",
            "e2e/test_timeouts.py::test_a_handler_that_keeps_pythons_lock_is_shown_and_ends_hopd_all_the_same",
        ),
    ),
    16: Row(
        "a handler always fails",
        "bounded attempts with growing delay, then buried with reason, attempts and traceback; never a hot loop",
        (
            "e2e/test_retry.py::test_attempts_are_counted_over_a_restart_and_then_the_job_is_buried",
            "e2e/test_failures.py::test_a_buried_job_tells_who_failed_it_and_how",
            "e2e/test_failures.py::test_a_topic_that_requeues_tries_again_but_never_in_a_hot_loop",
            "unit/test_retry.py::test_attempts_are_bounded",
            "unit/test_retry.py::test_without_a_list_delays_do_not_shrink",
        ),
    ),
    17: Row(
        "a handler ends the process: a segmentation fault, os._exit, the kernel's memory killer",
        "restarted; the killer is found by running suspects one at a time and buried; the others are done",
        (
            "e2e/test_poison.py::test_killers_among_thousands_of_healthy_jobs_are_buried_and_all_others_done",
            "e2e/test_poison.py::test_two_daemons_that_share_a_killer_both_survive_it",
        ),
    ),
    18: Row(
        "a handler forks, closes stdout, calls sys.exit, changes signal handlers",
        "the daemon's connections and control survive",
        (
            "e2e/test_handler_abuse.py::test_a_handler_that_forks_leaves_the_daemon_its_connections",
            "e2e/test_handler_abuse.py::test_a_handler_that_closes_standard_streams_closes_nothing_else",
            "e2e/test_handler_abuse.py::test_a_handler_that_takes_the_signals_does_not_take_the_drain",
            "e2e/test_failures.py::test_whatever_a_handler_does_its_job_is_buried_and_the_next_one_is_done",
        ),
    ),
    19: Row(
        "a handler settles twice; settles and raises; settles from another greenlet",
        "one settlement; the second is a clear error to the caller",
        (
            "e2e/test_failures.py::test_a_job_is_settled_once_however_often_its_handler_does",
            "unit/test_executor.py::test_the_first_of_two_settlements_stands_and_the_second_is_an_error_to_the_handler",
            "unit/test_executor.py::test_a_handler_that_settles_and_raises_has_failed_but_its_settlement_stands",
            "unit/test_executor.py::test_a_job_settled_by_another_greenlet_while_it_runs_is_settled_once",
        ),
    ),
    # --- messages -------------------------------------------------------------------------------
    20: Row(
        "a timestamp header in ms, 2^64-1, nested tables, NaN, keys that are not UTF-8, no properties, an empty body",
        "handled or buried as undecodable; never a lost connection",
        (
            "fault/test_messages.py::test_no_message_however_strange_costs_the_connection",
            "integration/test_workqueue.py::test_broken_headers_are_an_error_of_their_job_alone",
            "unit/test_properties.py::test_a_number_that_would_cost_the_connection_is_refused_here",
            "unit/test_properties.py::test_garbage_raises_nothing_but_a_properties_error",
        ),
    ),
    21: Row(
        "a body of 100 MB",
        "bounded memory; max_body buries larger ones unread",
        (
            "fault/test_messages.py::test_a_body_of_a_hundred_megabytes_takes_little_more_memory_than_it_is_large",
            "e2e/test_aside.py::test_a_job_that_is_too_large_is_buried_and_can_be_kicked_to_a_daemon_that_takes_it",
        ),
    ),
    22: Row(
        "100,000 jobs waiting in the broker; 10,000 running",
        "memory as at 1,000 waiting; nothing slower per job",
        (
            "fault/test_many_jobs.py::test_a_hundred_thousand_jobs_that_wait_cost_the_daemon_nothing",
            "fault/test_many_jobs.py::test_ten_thousand_jobs_that_run_cost_a_bounded_piece_of_memory_each_and_hold_up_nobody",
        ),
    ),
    # --- daemon ---------------------------------------------------------------------------------
    23: Row(
        "SIGTERM idle, busy, connecting, draining, reloading; twice",
        "unstarted jobs back unharmed, running ones finish up to the grace period, the rest back; exit 0; a second signal: now",
        (
            "e2e/test_signals.py::test_an_idle_daemon_leaves_at_once_and_takes_its_socket_along",
            "e2e/test_signals.py::test_a_busy_daemon_lets_running_jobs_finish_and_returns_the_others_unharmed",
            "e2e/test_signals.py::test_jobs_that_take_longer_than_the_grace_period_go_back",
            "e2e/test_signals.py::test_a_daemon_that_is_still_connecting_leaves_at_once",
            "e2e/test_signals.py::test_a_daemon_that_drains_leaves_when_its_running_jobs_have_finished",
            "e2e/test_reload.py::test_who_is_told_to_leave_while_it_looks_at_a_config_leaves_at_once",
            "e2e/test_signals.py::test_a_second_signal_means_now",
        ),
    ),
    24: Row(
        "SIGTERM while the broker is down",
        "leaves within the grace period",
        (
            "e2e/test_signals.py::test_a_daemon_whose_broker_is_down_leaves_at_once",
            "e2e/test_signals.py::test_jobs_that_run_when_the_broker_goes_down_have_the_grace_period",
            "e2e/test_signals.py::test_a_daemon_whose_broker_is_frozen_leaves_soon",
        ),
    ),
    25: Row(
        "SIGKILL again and again under load",
        "lost = 0; stale socket healed",
        (
            "e2e/test_restart.py::test_a_daemon_that_is_killed_again_and_again_under_load_loses_nothing",
            "unit/test_control_server.py::test_the_socket_of_a_killed_daemon_is_healed",
        ),
    ),
    26: Row(
        "reload: a bad file, a good file, under load",
        "the old config stays and the reason is returned; only changed topics notice; nothing is lost",
        (
            "e2e/test_reload.py::test_only_changed_topics_notice",
            "e2e/test_reload.py::test_old_and_new_jobs_together_are_no_more_than_the_concurrency",
            "e2e/test_reload.py::test_of_a_bad_config_nothing_is_taken_up_and_all_is_told",
            "e2e/test_reload.py::test_a_hangup_has_the_config_taken_up_and_the_log_tells_what_came_of_it",
            "e2e/test_reload.py::test_nothing_is_lost_and_nothing_done_twice_when_the_config_changes_under_load",
        ),
    ),
    27: Row(
        "the disk of the log is full; its reader has stopped; stdout is closed",
        "jobs go on; dropped lines are counted",
        (
            "e2e/test_daemon.py::test_a_log_whose_reader_has_stopped_stops_nothing",
            "e2e/test_handler_abuse.py::test_a_handler_that_closes_standard_streams_closes_nothing_else",
            "unit/test_logs.py::test_a_full_disk_is_survived_and_told_when_there_is_room_again",
            "unit/test_logs.py::test_dropped_lines_are_reported_once_in_the_logs_own_format",
        ),
    ),
    28: Row(
        "file descriptors are exhausted",
        "accepting pauses without spinning; jobs go on",
        (
            "fault/test_descriptors.py::test_jobs_go_on_while_no_file_can_be_opened",
            "unit/test_control_server.py::test_accepting_pauses_without_spinning_when_file_descriptors_run_out",
        ),
    ),
    29: Row(
        "the clock jumps",
        "nothing notices",
        (
            "fault/test_clock.py::test_a_clock_that_jumps_disturbs_neither_jobs_nor_connections",
            "fault/test_clock.py::test_only_those_look_at_the_wall_clock_who_write_it_down",
        ),
    ),
    # --- control socket -------------------------------------------------------------------------
    30: Row(
        "garbage, NUL, deep JSON, huge numbers, a line of 1 MB, an unknown version or command",
        "one typed error, connection closed; the daemon unmoved",
        (
            "unit/test_control_server.py::test_garbage_gets_one_typed_error_and_is_hung_up_on",
            "unit/test_control_server.py::test_whatever_is_sent_each_line_gets_one_reply_at_most_and_the_server_lives",
            "unit/test_control_protocol.py::test_any_bytes_are_a_request_or_a_refusal",
        ),
    ),
    31: Row(
        "one byte a second; a reader that never reads; 1,000 clients",
        "deadlines, a cap and fast refusal; the latency of jobs is unchanged",
        (
            "fault/test_control_flood.py::test_jobs_do_not_notice_clients_that_flood_trickle_or_never_read",
            "unit/test_control_server.py::test_a_line_that_trickles_in_is_cut_off_at_its_deadline",
            "unit/test_control_server.py::test_a_client_that_never_reads_is_dropped_and_delays_nobody",
            "unit/test_control_server.py::test_of_a_thousand_clients_the_first_are_served_and_the_rest_refused_at_once",
        ),
    ),
    32: Row(
        "another user",
        "refused by the file's mode, and by SO_PEERCRED for commands that change something; logged with uid and pid",
        (
            "unit/test_control_server.py::test_a_stranger_is_kept_out_by_the_file_mode",
            "unit/test_control_server.py::test_a_stranger_whom_the_file_mode_lets_in_may_look_but_change_nothing",
            "unit/test_control_commands.py::test_a_stranger_changes_nothing_and_is_logged",
        ),
    ),
    33: Row(
        "the path of the socket: stale, of a live daemon, a regular file, over 107 bytes, its directory missing",
        "healed; refused; refused and never unlinked; clear errors",
        (
            "unit/test_control_socketfile.py::test_a_stale_socket_is_healed",
            "unit/test_control_socketfile.py::test_a_live_daemon_is_respected",
            "unit/test_control_socketfile.py::test_what_is_no_socket_is_refused_and_never_unlinked",
            "unit/test_control_socketfile.py::test_a_path_over_107_bytes_is_refused",
            "unit/test_control_socketfile.py::test_a_missing_directory_is_named",
            "e2e/test_daemon.py::test_a_second_daemon_on_the_same_socket_is_refused_and_the_first_lives_on",
        ),
    ),
    # --- config ---------------------------------------------------------------------------------
    34: Row(
        "missing, unreadable, empty, a list, two documents, tabs, duplicate or unknown keys, wrong types, out of range",
        "exit 78; every problem at once as file:line:col: path: message",
        (
            "unit/test_config_load.py::test_all_problems_come_at_once_and_in_the_order_of_the_file",
            "unit/test_config_load.py::test_a_missing_file_is_named",
            "unit/test_config_load.py::test_an_unreadable_file_says_why",
            "unit/test_config_load.py::test_what_is_wrong_with_a_topic_is_said_where_it_stands",
            "unit/test_config_source.py::test_an_empty_file_is_refused",
            "unit/test_config_source.py::test_a_list_is_no_config",
            "unit/test_config_source.py::test_a_second_document_is_refused_where_it_starts",
            "unit/test_config_source.py::test_a_tab_as_indentation_is_called_a_tab",
            "unit/test_config_source.py::test_a_duplicate_key_names_the_line_of_the_first",
            "unit/test_hopd_command.py::test_every_problem_is_told_at_once_each_with_its_place",
            "e2e/test_service.py::test_a_config_that_cannot_be_used_is_not_tried_again",
        ),
    ),
    35: Row(
        "an alias bomb, a self-reference, a merge bomb, 1,500 levels, a 5,000-digit int, 2001-99-99, !!python/…, no: as a key",
        "refused with a message in under a second",
        (
            "unit/test_config_source.py::test_a_hostile_file_is_refused_in_under_a_second",
            "unit/test_config_source.py::test_a_tag_is_refused_unread",
            "unit/test_config_source.py::test_a_date_that_does_not_exist_is_refused",
            "unit/test_config_source.py::test_a_key_that_yaml_does_not_read_as_text_wants_quotes",
            "unit/test_config_any_bytes.py::test_any_bytes_are_settings_or_a_config_error",
        ),
    ),
    36: Row(
        "a handler is missing, its import raises, exits or hangs, it is not callable or has the wrong arity",
        "exit 78 naming topic and line; hopd check imports in a child with a timeout",
        (
            "unit/test_handler.py::test_whatever_an_import_raises_is_a_problem",
            "unit/test_handler.py::test_an_import_that_stops_the_process_is_pinned_on_its_topic",
            "unit/test_handler.py::test_what_cannot_handle_jobs_is_refused_with_the_reason",
            "unit/test_hopd_command.py::test_every_handler_that_cannot_be_called_is_told_with_topic_and_line",
        ),
    ),
    37: Row(
        "an environment variable is not set; a secret file is unreadable",
        "named, with line",
        (
            "unit/test_config_environment.py::test_a_variable_that_is_not_set_is_named_with_its_line",
            "unit/test_config_load.py::test_a_secret_file_that_is_missing_is_named_with_its_line",
            "unit/test_config_load.py::test_a_secret_file_that_is_not_ours_to_read_is_named",
        ),
    ),
    # --- client library -------------------------------------------------------------------------
    38: Row(
        "put to a topic whose queue was deleted; to an unknown exchange; while recovering",
        "Unroutable; a clear error; waits up to its deadline, then PutTimeout; never silence",
        (
            "integration/test_workqueue.py::test_a_put_to_a_deleted_topic_is_unroutable",
            "integration/test_workqueue.py::test_a_put_to_an_exchange_that_is_not_there_is_unroutable",
            "integration/test_workqueue.py::test_a_put_while_the_broker_is_away_fails_at_its_deadline",
            "integration/test_workqueue.py::test_a_put_waits_for_a_broker_that_comes_back",
            "fault/test_refused_puts.py::test_a_full_topic_refuses_puts_and_takes_them_when_there_is_room",
        ),
    ),
    39: Row(
        "the connection is lost between publish and confirm",
        "raised as may have been put; tried again only if asked",
        (
            "integration/test_workqueue.py::test_a_put_whose_confirm_is_lost_is_uncertain",
            "integration/test_workqueue.py::test_an_uncertain_put_that_is_tried_again_is_there_twice_under_one_id",
            "unit/test_publisher.py::test_a_connection_that_is_lost_on_the_way_leaves_the_message_uncertain",
        ),
    ),
    40: Row(
        "used from 50 threads, from 5,000 greenlets, after fork",
        "correct; correct; a clear error in the child",
        (
            "integration/test_workqueue.py::test_fifty_threads_share_one_work_queue",
            "integration/test_library_worlds.py::test_five_thousand_greenlets_share_one_work_queue",
            "integration/test_workqueue.py::test_a_forked_process_is_told_so_and_does_its_parent_no_harm",
            "integration/test_library_worlds.py::test_a_forked_childs_greenlets_leave_their_parents_connection_alone",
        ),
    ),
}

#: All of it at random, with a ledger at the end.
EVERYTHING = ("fault/test_soak.py::test_a_minute_of_every_fault_loses_nothing",)
