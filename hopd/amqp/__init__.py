"""AMQP 0-9-1 over pika: the only folder that imports it. Nothing in here says job; nothing above says ack."""
