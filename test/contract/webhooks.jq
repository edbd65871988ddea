# Turns each webhook of the document into a path of the same name, since Prism only
# serves paths.  POST checks a payload, GET invents one.

def of_payload: { description: "a payload", content };

.paths = (.webhooks | with_entries(
	.key |= "/" + .
	| .value.get = { responses: { "200": (.value.post.requestBody | of_payload) } }))
| del(.webhooks)
