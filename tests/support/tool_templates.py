"""Chat templates that know of tools, each in another family's manner, and some that do not.

Each is written for the tests; what they share with a family's own is what they do with which names.
"""

from __future__ import annotations

from typing import Final

__all__ = ["TEMPLATES"]

_ANSWER: Final = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

_QWEN: Final = (
    """\
{%- if tools %}<|im_start|>system
{{ messages[0].content if messages[0].role == 'system' else 'Be helpful.' }}
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools><|im_end|>
{% endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>{{ message.content }}</tool_response><|im_end|>
{% elif message.tool_calls %}<|im_start|>assistant
{{ message.content }}{% for call in message.tool_calls %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% elif not (tools and loop.first and message.role == 'system') %}<|im_start|>{{ message.role }}
{{ message.content.split('</think>')[-1] }}<|im_end|>
{% endif -%}
{%- endfor -%}
"""
    + _ANSWER
)

_DEEPSEEK: Final = (
    """\
{%- for message in messages -%}
{%- if message.role == 'tool' -%}RESULT {{ message.content }}
{% elif message.tool_calls -%}
{%- for call in message.tool_calls -%}
<\uff5ctool▁calls▁begin\uff5c>{{ call.function.name }} {{ call.function.arguments + '' }}
{% endfor -%}
{%- else -%}{{ message.role }}: {{ message.content.split('</think>')[-1] }}
{% endif -%}
{%- endfor -%}
"""
    + _ANSWER
    + "<think>\n"
)

_PHI: Final = (
    """\
{%- for message in messages -%}
{%- if message.role == 'system' and 'tools' in message and message.tools is not none -%}
<|im_start|>system
{{ message.content }}<|tool|>{{ message.tools }}<|/tool|><|im_end|>
{% else -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif -%}
{%- endfor -%}
"""
    + _ANSWER
)

_MISTRAL: Final = (
    """\
{%- if tools -%}[AVAILABLE_TOOLS]{{ tools | tojson }}{%- endif -%}
{%- set ns = namespace(last='assistant') -%}
{%- for message in messages -%}
{%- if message.role in ['user', 'assistant'] and not message.tool_calls -%}
{%- if message.role == ns.last -%}{{ raise_exception('roles must alternate') }}{%- endif -%}
{%- set ns.last = message.role -%}
[{{ message.role }}]{{ message.content }}
{%- elif message.tool_calls -%}
[TOOL_CALLS]
{%- for call in message.tool_calls -%}
{%- if call.id | length != 9 -%}{{ raise_exception('ids have nine letters') }}{%- endif -%}
{{ {'name': call.function.name, 'arguments': call.function.arguments, 'id': call.id} | tojson }}
{%- endfor -%}
{%- elif message.role == 'tool' -%}
{%- if message.tool_call_id | length != 9 -%}{{ raise_exception('ids have nine letters') }}{%- endif -%}
[TOOL_RESULTS]{{ message.tool_call_id }}={{ message.content }}
{%- else -%}{{ raise_exception('no such role') }}
{%- endif -%}
{%- endfor -%}
"""
    + _ANSWER
)

_CALLS_ALONE: Final = """\
{%- for message in messages -%}
{%- if message.tool_calls -%}{% for call in message.tool_calls %}{{ call.function | tojson }}{% endfor %}
{% elif message.role != 'tool' -%}{{ message.role }}: {{ message.content }}
{% endif -%}
{%- endfor -%}"""

_ROLES_ALONE: Final = (
    """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
"""
    + _ANSWER
)

_STRICT_ROLES: Final = """\
{%- for message in messages -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles must alternate') }}
{%- endif -%}{{ message.role }}: {{ message.content }}
{% endfor -%}"""

TEMPLATES: Final = {
    "qwen": _QWEN,
    "deepseek": _DEEPSEEK,
    "phi": _PHI,
    "mistral": _MISTRAL,
    "calls alone": _CALLS_ALONE,
    "roles alone": _ROLES_ALONE,
    "strict roles": _STRICT_ROLES,
    "broken": "{{ raise_exception('never') }}",
}
