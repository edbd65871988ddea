# The document calls itself OpenAPI 3.1 and marks what may be null by "nullable",
# which 3.1 does not know any more: a validator that goes by the label refuses each
# legitimate null.  Say it as 3.1 does.

def or_null:
	if has("enum") then .enum += [null] else . end
	| if (.type | type) == "string" then .type = [.type, "null"]
	  else { anyOf: [., { type: "null" }] } end;

walk(if type == "object" and .nullable == true then del(.nullable) | or_null else . end)
