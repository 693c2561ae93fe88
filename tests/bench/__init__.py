"""How fast hopd is, beside the broker's own limit and beside others: `make bench`.

A private RabbitMQ has its queues filled; then each contender in turn is let loose on the same number of jobs, and so on for
several rounds. What counts is how they compare within a round: the machine has its moods, and they hit all alike.

    workloads   what is run, by whom, and what hopd is held to       } frozen values
    order       what a contender is told, tally what it tells         } the contenders' side, standard library only
    raw, ceiling, publish    the broker's limits: sockets that do nothing but count
    contenders, peers/       who competes
    stage, measure, run      a broker, processes, rounds
    figures, report, chart   medians and ratios, the table, the picture
"""
