# The document declares OpenAPI 3.1, but marks nullable values by "nullable", which 3.1
# no longer has: a strict validator refuses each valid null.  This converts them to 3.1.

def or_null:
	if has("enum") then .enum += [null] else . end
	| if (.type | type) == "string" then .type = [.type, "null"]
	  else { anyOf: [., { type: "null" }] } end;

walk(if type == "object" and .nullable == true then del(.nullable) | or_null else . end)
