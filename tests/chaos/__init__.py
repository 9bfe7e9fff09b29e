"""The chaos suite: workers and broker are killed, paused and starved on a seeded schedule while clicks flow, and then
the topics alone must show that nothing was lost, doubled, left unanswered or sent out of order.

`make chaos` runs it; `evidence` reads the topics, `verifier` and `offline_hidden` judge them, `schedule` says what
happens when, `run` makes it happen. Nothing here starts or looks into a worker other than as its supervisor would.
"""
