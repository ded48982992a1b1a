"""The protocol's messages: frozen attrs classes by topic, without behaviour.

What a field may hold stands in its annotation (`foundry_proto.wire`); `foundry_proto.codec` applies it.
"""
