"""How updates are written for whoever reads them: JSON, CloudEvents, and Avro or Protobuf with a schema registry.

Each format writes the same update. The list in it, which is nearly all of it, is written where items are ranked, once
for all who get it; what remains is a few fields, put together by a few lines of their own. No library is needed to
write, and none is loaded.
"""
