"""The stream worker: clicks in, states advanced, recommendation updates out. No gradient is ever computed here.

The way of a click: `chunks` (arrives) -> `agent` (decides, through `nextclick.advance`) -> `durable` (leaves, and is
acknowledged last). Only the modules that say so import Faust or aiokafka.
"""
