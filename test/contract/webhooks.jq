# The document describes webhooks, and Prism plays paths alone: each webhook as a
# path of its name.  Sent there, a payload is judged; got from there, one is invented.

def of_payload: { description: "a payload", content };

.paths = (.webhooks | with_entries(
	.key |= "/" + .
	| .value.get = { responses: { "200": (.value.post.requestBody | of_payload) } }))
| del(.webhooks)
