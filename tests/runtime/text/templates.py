"""Chat templates: ordinary ones in the manners that models use, and hostile ones.

`BOMBS` want endless time or memory, `ESCAPES` want to reach Python. `ORDINARY` must render exactly as jinja2
alone renders them.
"""

from __future__ import annotations

__all__ = ["BOMBS", "CHATML", "ESCAPES", "ORDINARY"]

CHATML = """\
{% for message in messages %}
    {% if loop.first and message.role != 'system' %}
{{ '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}
    {% endif %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}"""

_ALTERNATING = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set system = messages[0]['content'] | trim ~ '\\n\\n' -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set system, rest = '', messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if message.role == 'user' -%}
        {{ '[INST] ' ~ (system if loop.index0 == 0 else '') ~ message.content.strip() ~ ' [/INST]' }}
    {%- elif message.role == 'assistant' -%}
        {% generation %}{{ ' ' + message.content | trim + eos_token }}{% endgeneration %}
    {%- else -%}
        {%- continue -%}
    {%- endif -%}
{%- endfor -%}"""

_TOOLS = """\
{%- macro signature(tool, indent=2) -%}
{{ tool.name }}({% for name, kind in tool.parameters.items() %}{{ name }}: {{ kind | upper }}
{%- if not loop.last %}, {% endif %}{% endfor %})
{%- endmacro -%}
{%- set ns = namespace(last_user=-1, count=0) -%}
{%- for message in messages[::-1] -%}
    {%- set index = (messages | length - 1) - loop.index0 -%}
    {%- if ns.last_user < 0 and message.role == 'user' and message.content is string -%}
        {%- set ns.last_user = index -%}
    {%- endif -%}
{%- endfor -%}
{%- if tools %}
<tools>
{% for tool in tools %}
{{ tool | tojson }}
{{ signature(tool) }}
{{ tool | tojson(indent=2) | replace('\\n', '\\n  ') }}
{% endfor %}
</tools>
{% endif -%}
{%- for message in messages -%}
    {%- set content = message.content or '' -%}
    {%- if message.tool_calls is defined and message.tool_calls -%}
        {%- for call in message.tool_calls -%}
            {%- set function = call.function if call.function is defined else call -%}
            {%- set written = {'name': function.name, 'arguments': function.arguments} | tojson -%}
            {{- '\\n<call>' ~ written ~ '</call>' -}}
        {%- endfor -%}
    {%- endif -%}
    {%- if '</think>' in content -%}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
    {%- endif -%}
    {%- set ns.count = ns.count + content.split() | count -%}
    {{- message.role | capitalize ~ ': ' ~ content ~ ('' if loop.last else '\\n') -}}
    {%- if loop.index0 > ns.last_user %}{{ ' (%d of %s)' % (loop.index, loop.length) }}{% endif -%}
{%- endfor -%}
{{ ns.count }} words by {{ messages | map(attribute='role') | unique | sort | join(', ') }}"""

_MUCH_OF_THE_LANGUAGE = """\
{%- set roles = messages | selectattr('role', 'in', ['user', 'assistant']) | list -%}
{%- set others = messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | list -%}
{%- for group in messages | groupby('role') %}{{ group.grouper }}={{ group.list | length }};{% endfor -%}
{%- for name, value in {'b': 1, 'a': 2}.items() %}{{ name }}{{ value * 3 // 2 - 1 }}{% endfor -%}
{%- for name, value in {'b': 1, 'a': 2} | dictsort %}{{ name }}{{ -value ** 2 }}{% endfor -%}
{%- for x in range(10) if x % 3 == 0 %}{% if x > 6 %}{% break %}{% endif %}{{ x }}{% else %}none{% endfor -%}
{%- set caught %}{{ others | join('|') }}{% endset -%}
{%- filter upper %}{{ caught | truncate(20, True, '...') }}{% endfilter -%}
{%- call(word) greet('hi') %}<{{ word }}>{% endcall -%}
{%- macro greet(word, times=2) %}{{ caller(word) * times }}{{ varargs | length }}{% endmacro -%}
{%- macro say(word, times=2) %}{{ word * times }}{% endmacro -%}
{{ say('x') ~ say(word='y', times=1) ~ say('z', 0) }}
{%- with a = 1, b = [1, 2.5, none, true] %}{{ a }}{{ b }}{{ b | tojson }}{% endwith -%}
{{ 'é"<>&' | tojson }}{{ 'é"<>&' | e }}{{ 'abc'[1:] }}{{ 'abc'[::-1] }}{{ [3, 1, 2] | sort(reverse=true) }}
{{ '%05.1f|%-4s|%%' % (1.25, 'a') }}{{ '{:>4}|{x!r}'.format(1, x='y') }}{{ 'a,b'.split(',') | last }}
{{ undefined_name }}{{ undefined_name is defined }}{{ messages[99] is undefined }}{{ none is none }}
{{ 'a' in 'abc' and 1 < 2 <= 2 != 3 or not true }}{{ 'yes' if messages else 'no' }}{{ 7 / 2 }}
{{ messages | map('length') | sum }}
{{ [1, 2, 3, 4] | batch(3, 0) | list }}{{ ' a ' | trim | title | center(7) }}
{{ 'a\\nb' | indent(2) }}{{ 'x'.join(['1', '2']) }}{{ '1.5' | float + '2' | int }}{{ 2.567 | round(1) }}
{{ (1, 2)[0] }}{{ {'k': {'n': 1}}.k.n }}{{ {'k': 1}.get('z', 'd') }}
{{ [[1], [2]] | first }}{{ loop is defined }}
{%- for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{{ loop.depth }}{% endfor %}"""

ORDINARY = {
    "chatml": CHATML,
    "alternating": _ALTERNATING,
    "tools": _TOOLS,
    "much of the language": _MUCH_OF_THE_LANGUAGE.replace(
        "{%- call(word) greet('hi') %}<{{ word }}>{% endcall -%}\n", ""
    ),
}

_DOUBLING = (
    "{% set ns = namespace(s=START) %}{% for i in range(60) %}{% set ns.s = STEP %}{% endfor %}{{ ns.s }}"
)
_NESTING = (
    "{% set ns = namespace(s=(1,), t=(1,)) %}{% for i in range(60) %}"
    "{% set ns.s = (ns.s, ns.s) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}"
)
_LONG = "{% set s = 'a' * 200000 %}{% set t = 'a' * 200000 %}{% for i in range(100000) %}BODY{% endfor %}"

_DOUBLINGS = [
    "ns.s + ns.s",
    "ns.s ~ ns.s",
    "ns.s * 2",
    "2 * ns.s",
    "[ns.s, ns.s] | join",
    "''.join([ns.s, ns.s])",
    "ns.s.replace('a', 'aa')",
    "ns.s | replace('a', 'aa')",
    "ns.s | replace(old='a', new='aa')",
    "'%s%s' % (ns.s, ns.s)",
    "'%(a)s%(a)s' % {'a': ns.s}",
    "'%s%s' | format(ns.s, ns.s)",
    "'{0}{0}'.format(ns.s)",
    "'{a}{a}'.format_map({'a': ns.s})",
    "ns.s | indent(ns.s, true)",
    "[ns.s, ns.s] | string",
    "[ns.s] | tojson | tojson | tojson | tojson",
    "both(ns.s)",
]
_NESTED_USES = [
    "{{ ns.s }}",
    "{{ ns.s ~ '' }}",
    "{{ ns.s | string }}",
    "{{ ns.s | tojson }}",
    "{{ ns.s | tojson(indent=2) }}",
    "{{ [ns.s] | join }}",
    "{{ '%s' % (ns.s,) }}",
    "{{ '{}'.format(ns.s) }}",
    "{{ ns.s == ns.t }}",
    "{{ ns.s < ns.t }}",
    "{{ ns.s is eq ns.t }}",
    "{{ ns.s is in [ns.t] }}",
    "{{ ns.s in [ns.t] }}",
    "{{ [ns.s].index(ns.t) }}",
    "{{ [ns.s, ns.t] | sort }}",
    "{{ [ns.s, ns.t] | max }}",
    "{{ [ns.s] | unique | list }}",
    "{{ {ns.s: 1} }}",
    "{{ {}[ns.s] }}",
    "{{ {}.get(ns.s) }}",
    "{{ ns.s in {} }}",
    "{{ dict([(ns.s, 1)]) }}",
    "{{ namespace([(ns.s, 1)]) }}",
    "{{ [ns.s] | select('equalto', ns.t) | list }}",
    "{{ raise_exception(ns.s) }}",
    "{% for x in [1, 2] %}{{ loop.changed(ns.s) }}{% endfor %}",
]
_LONG_USES = [
    "{{ s in t }}",
    "{% if s == t %}{% endif %}",
    "{% if s is eq t %}{% endif %}",
    "{% set x = s[1:] %}",
    "{% set x = s | upper %}",
    "{% set x = s.strip('ab') %}",
    "{% set x = s.rfind(t) %}",
    "{% set x = s.split('a') %}",
    "{% set x = s | list %}",
    "{% set x = s.startswith(t) %}",
    "{% set x = s | trim('ab') %}",
    "{% set x %}{{ s }}{% endset %}",
    "{{ s }}",
]

BOMBS = [
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{% for a in range(100000) %}{% for b in range(100000) if false %}{% endfor %}{% endfor %}",
    "{% for a in range(100000) %}{% for b in range(100000) %}text{% endfor %}{% endfor %}",
    "{% for x in range(100000) recursive %}{{ loop(range(100000)) if loop.depth < 5 }}{% endfor %}",
    "{% for x in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 60 }}{% endfor %}",
    "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% macro m() %}{{ caller() }}{%endmacro %}{% for a in 'a'*50000 %}{% call m() %}{%endcall%}{% endfor %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{% for i in range(99999) %}{{ self.b() }}{% endfor %}{% block b %}{{ 1 + 2 + 3 }}{% endblock %}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [1] * 10**9 }}",
    "{{ (1, 2) * 10**9 }}",
    "{{ 2 ** (10**9) }}",
    "{{ 10 ** (10 ** 10) }}",
    "{% set ns = namespace(x=3) %}{% for i in range(100) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{% set ns = namespace(x=3) %}{% for i in range(10000) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=3) %}{% for i in range(10000) %}{% set ns.x = ns.x - -ns.x %}{% endfor %}",
    "{{ range(10**9) | list }}",
    "{{ range(10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%.1000000000f' % 1.0 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%(a)1000000000d' % {'a': 1} }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:1000000000d}'.format(1) }}",
    "{{ '{:.1000000000f}'.format(1.0) }}",
    "{{ '{:{}}'.format(1, 10**4) }}",
    "{{ '{0:1000000000d}'.format_map({'0': 1}) }}",
    "{{ 'a'.center(10**9) }}",
    "{{ 'a' | center(10**9) }}",
    "{{ 'a' | center(width=10**9) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a'.zfill(10**9) }}",
    "{{ 'a\\t'.expandtabs(10**9) }}",
    "{{ ('a\\t' * 10000).expandtabs(10000) }}",
    "{{ ('a' * 1000).translate({97: 'b' * 1000000}) }}",
    "{{ (1).to_bytes(10**9, 'big') }}",
    "{{ (1).to_bytes(10000, 'big') }}",
    "{{ lipsum(n=10**9) }}",
    "{{ lipsum(n=1000) }}",
    "{{ ('a\\n' * 1000) | indent(1000000) }}",
    "{{ ('a\\r' * 10000) | indent(10000) }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{{ ([[[[1]]]] * 1000) | tojson(indent=10000) }}",
    "{{ ([1] * 10000) | tojson(separators=('x' * 10000, ':')) }}",
    "{{ [1] | slice(10**9) | list }}",
    "{{ [1] | batch(10**9, 0) | list }}",
    "{{ ([[1]] * 10000) | sum(start=[]) }}",
    "{{ ([1.0] * 10000) | join('x' * 10000) }}",
    "{{ ('x' * 10000).join(['y'] * 10000) }}",
    "{{ ('x' * 10000).replace('x', 'y' * 10000) }}",
    "{{ ('x' * 10000).replace('', 'y' * 10000) }}",
    "{{ ([5] * 10000) | replace('5', 'y' * 10000) }}",
    "{{ ('%s' * 10000) % (('x' * 10000,) * 10000) }}",
    "{% set l = ['x' * 100000] * 100000 %}{{ l | join }}",
    "{% set l = ['x' * 100000] * 100000 %}{{ l }}",
    "{% macro m() %}{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}{% endmacro %}{% set x = m() %}",
    "{% set x %}{% for i in range(100000) %}" + "x" * 1000 + "{% endfor %}{% endset %}",
    "{% filter upper %}{% for i in range(100000) %}" + "x" * 1000 + "{% endfor %}{% endfilter %}",
    "{% for i in range(100000) %}" + "x" * 1000 + "{% endfor %}",
    "{% set r = range(10000) | list %}{% for x in r %}{{ r | select('none') | list }}{% endfor %}",
    "{% set r = range(10000) | list %}{% for x in r %}{{ r | map(attribute='a') | list }}{% endfor %}",
    "{% set r = range(10000) | list %}{% for x in r %}{{ r | map('string') | first }}{% endfor %}",
    "{% set r = range(10000) | list %}{% for x in r %}{{ r | sort | first }}{% endfor %}",
    "{% for x in range(1000) %}{{ strftime_now('%d' * 100) }}{{ 'x' * 1000 }}{% endfor %}",
    "{{ strftime_now('%1000d' * 1000) }}",
    *(
        _DOUBLING.replace("START", "'a' * 8").replace("STEP", step)
        for step in _DOUBLINGS
        if "both" not in step
    ),
    "{% macro both(s) %}{{ s }}{{ s }}{% endmacro %}"
    + _DOUBLING.replace("START", "'a'").replace("STEP", "both(ns.s)"),
    _DOUBLING.replace("START", "[1]").replace("STEP", "ns.s + ns.s"),
    "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s %}{{ns.s*2}}{% endset %}{% endfor %}",
    *(_NESTING + use for use in _NESTED_USES),
    *(_LONG.replace("BODY", use) for use in _LONG_USES),
]

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''|attr('__class__') }}",
    "{{ (1).__class__.__base__ }}",
    "{{ messages.__class__ }}",
    "{{ messages[0].__class__ }}",
    "{{ messages|map(attribute='__class__')|list }}",
    "{{ messages|map('attr', '__class__')|list }}",
    "{{ messages|selectattr('__class__')|list }}",
    "{{ messages|sort(attribute='__class__') }}",
    "{{ messages|groupby('__class__') }}",
    "{{ messages|sum(attribute='__len__') }}",
    "{{ messages.append(1) }}",
    "{{ messages.clear() }}",
    "{{ messages[0].update(role='x') }}",
    "{{ messages[0].pop('role') }}",
    "{{ messages[0].setdefault('x', 1) }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self.__dict__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ self }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ namespace.mro() }}",
    "{{ dict.mro() }}",
    "{{ dict.fromkeys([1]) }}",
    "{{ range.__globals__ }}",
    "{{ range.__wrapped__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ raise_exception.__code__ }}",
    "{{ strftime_now.__self__ }}",
    "{{ strftime_now.__func__ }}",
    "{% set ns = namespace() %}{{ ns.__class__ }}{{ ns._Namespace__attrs }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0[__class__]}'.format(messages) }}",
    "{{ '{0.__class__.__mro__}'.format_map({'0': 1}) }}",
    "{{ '{x.__globals__}'.format(x=raise_exception) }}",
    "{{ '%s' % ''.format.__self__.__class__ }}",
    "{{ ''.format.__wrapped__ }}",
    "{{ [''.format]|map(attribute='__self__')|list }}",
    "{{ ['{0.__class__}']|map('format', 1)|list }}",
    "{% for x in [1] %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{% for x in [1] %}{{ loop._iterator }}{{ loop._iterable }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._environment }}",
    "{% macro m() %}{{ caller.__class__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% from 'os' import popen %}{{ popen }}",
    "{{ undefined_name.__class__ }}",
    "{{ undefined_name.__init__.__globals__ }}",
    "{{ environment.__class__ }}",
    "{{ context.environment }}",
    "{{ environment }}{{ context }}{{ resolve }}{{ undefined }}{{ cond_expr_undefined }}",
    "{{ config }}{{ request }}{{ get_flashed_messages }}",
    "{{ messages|tojson|pprint }}",
    "{{ messages|random }}",
    "{{ open('/etc/passwd') }}",
    "{{ __import__('os') }}",
    "{{ eval('1') }}",
    "{% debug %}",
    "{% do messages %}",
    "{{ 'x'|filter }}",
    "{{ 'map' is filter }}",
    "{{ 1|'(tick)' }}",
    "{{ messages|map('(tick)', -1000000000)|list }}",
    "{{ messages|map('(weigh)')|list }}",
]
