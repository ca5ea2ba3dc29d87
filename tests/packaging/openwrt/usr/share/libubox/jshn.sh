# The part of jshn that makes flat objects of texts.
json_init() { _json='{}'; }
json_add_string() { _json="$(printf '%s' "$_json" | jq -c --arg name "$1" --arg value "$2" '. + {($name): $value}')"; }
json_dump() { echo "$_json"; }
