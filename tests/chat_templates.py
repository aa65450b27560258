"""Chat templates written for the tests, in the styles in use."""

from __future__ import annotations

CHATML = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

HEADERS = """{{- bos_token }}
{%- set first = messages[0] %}
{%- set date = date_string if date_string is defined else strftime_now("%d %b %Y") %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date + "\\n\\n" }}
{%- if first.role == "system" %}
    {{- first.content | trim }}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- "<|start_header_id|>" ~ message.role ~ "<|end_header_id|>\\n\\n" }}
    {{- message.content | trim ~ "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}
{%- endif %}
"""

BRACKETS = """{%- if messages[0]["role"] == "system" %}
    {%- set system = messages[0]["content"] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{{- bos_token }}
{%- for turn in turns %}
    {%- if (turn.role == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("After the system message, user and assistant take turns.") }}
    {%- endif %}
    {%- if turn.role == "user" %}
        {%- if loop.last and system is defined %}
            {{- "[INST] " + system + "\\n\\n" + turn.content + " [/INST]" }}
        {%- else %}
            {{- "[INST] " + turn.content + " [/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + turn.content | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""

MERGED = """{% if messages[0]['role'] == 'system' %}
    {% set rest, system = messages[1:], '<<SYS>>\\n' ~ messages[0]['content'] ~ '\\n<</SYS>>\\n\\n' %}
{% else %}
    {% set rest, system = messages, '' %}
{% endif %}
{% for message in rest %}
    {% set content = system ~ message['content'] if loop.first else message['content'] %}
    {% if message['role'] == 'user' %}
        {{ bos_token ~ '[INST] ' ~ content.strip() ~ ' [/INST]' }}
    {% elif message['role'] == 'assistant' %}
        {{ ' ' ~ content.strip() ~ ' ' ~ eos_token }}
    {% endif %}
{% endfor %}
"""

TOOLS = """{%- macro show(parameters) %}
{%- for name, kind in parameters.properties | dictsort %}
{{ name }}: {{ kind.type }}{{ " (needed)" if name in parameters.required | default([]) }}
{%- endfor %}
{%- endmacro %}
{%- if tools is not none and tools %}
{{- "<|im_start|>system\\n# Tools\\n<tools>" }}
{%- for tool in tools %}
{{ tool.function.name }} - {{ tool | tojson }}{{ show(tool.function.parameters) }}
{%- endfor %}
{{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- for m in messages %}
{%- if m.role == "assistant" and m.tool_calls %}
<|im_start|>assistant
{%- for call in m.tool_calls %}
<tool_call>
{{ {"name": call.function.name, "arguments": call.function.arguments} | tojson(indent=2) }}
</tool_call>
{%- endfor %}<|im_end|>
{%- elif m.role == "tool" %}
{%- if loop.first or messages[loop.index0 - 1].role != "tool" %}
<|im_start|>user
{%- endif %}
<tool_response>{{ m.content }}</tool_response>
{%- if loop.last or messages[loop.index0 + 1].role != "tool" %}<|im_end|>{% endif %}
{%- else %}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""

GENERATION = """{%- for m in messages %}
{%- if m.role == "assistant" %}
{{- "Assistant: " }}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}
{% else %}
{{- m.role | capitalize + ": " + m.content + "\\n" }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ "Assistant:" }}{% endif %}
"""

DATES = """{% set year = strftime_now('%Y') | int %}
{{ 'Knowledge until ' ~ (year - 1) ~ ', now ' ~ strftime_now('%Y-%m') }}
{% for m in messages if m.role != 'system' %}
{{ loop.index }}/{{ loop.length }} {{ m.role }}: {{ m.content }}
{% else %}
nothing
{% endfor %}"""

REASONING = """{%- set ns = namespace(last=-1, seen=0) %}
{%- for m in messages %}
    {%- if m.role == "user" %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for m in messages %}
    {%- set content = m.content %}
    {%- if m.role == "assistant" and "</think>" in content %}
        {%- set thought = content.split("</think>")[0].rstrip("\\n").split("<think>")[-1].lstrip("\\n") %}
        {%- set content = content.split("</think>")[-1].lstrip("\\n") %}
        {%- if loop.index0 > ns.last %}
            {%- set content = "<think>\\n" + thought.strip("\\n") + "\\n</think>\\n\\n" + content %}
        {%- endif %}
    {%- endif %}
    {%- set ns.seen = ns.seen + 1 %}
    {{- "<|im_start|>" + m.role + "\\n" + content + "<|im_end|>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- "<think>\\n\\n</think>\\n\\n" }}
    {%- endif %}
{%- endif %}
{{- ns.seen }}"""

DOCUMENTS = """{{- bos_token if bos_token is defined }}{{ unk_token }}{{ pad_token }}
{%- if documents %}
{%- for document in documents %}
[{{ loop.index }}] {{ document.title }}: {{ document.text | replace("\\n", " ") }}
{%- endfor %}
{%- else %}
No documents{% if documents is none %} were given{% endif %}.
{%- endif %}
{% for m in messages %}{{ m.role | upper }}: {{ m.content }}
{% endfor %}"""

PARTS = """{%- for m in messages %}
{{- "<|turn|>" ~ ("model" if m.role == "assistant" else m.role) ~ "\\n" }}
{%- if m.content is string %}
    {{- m.content | trim }}
{%- else %}
    {%- for part in m.content %}
        {%- if part.type == "text" %}{{ part["text"] | trim }}
        {%- elif part.type == "image" %}{{ "<image>" }}
        {%- else %}{% continue %}{% endif %}
        {%- if not loop.last %}{{ "\\n" }}{% endif %}
    {%- endfor %}
{%- endif %}
{{- eos_token + "\\n" }}
{%- endfor %}
"""

SPECIAL = """{% for name, text in {"bos": bos_token, "eos": eos_token, "unk": unk_token,
 "sep": sep_token, "cls": cls_token, "mask": mask_token}.items() %}
{{ name }}={{ text }}{{ " (none)" if text is not defined }}
{% endfor %}
{{ dict(a=1, b=[2, none, true]) | tojson(sort_keys=true, separators=(",", ":")) }}
{{ dict.fromkeys(["x"], 1.5) }} {{ messages | map(attribute="role") | join("+") }}
{{ messages | selectattr("role", "equalto", "user") | list | length }}
{{ ["b", "a"] | sort | first }} {{ "%s-%d" | format("x", 7) }} {{ 7 // 2 }}"""

PLAIN = """{% for m in messages %}
{%- if loop.first %}{{ m.content }}{% else %}
{{ m.content }}{% if loop.index > 3 %}{% break %}{% endif %}{% endif %}
{%- endfor %}"""

STYLES = {
    "ChatML": CHATML,
    "headers": HEADERS,
    "brackets": BRACKETS,
    "system in the first turn": MERGED,
    "tools": TOOLS,
    "generation blocks": GENERATION,
    "dates": DATES,
    "reasoning": REASONING,
    "documents": DOCUMENTS,
    "parts": PARTS,
    "special tokens and filters": SPECIAL,
    "loop controls": PLAIN,
}
