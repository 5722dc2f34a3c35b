package httpregistry

import "net/http"

// What the tests look into.
var (
	ParseName     = parseName
	ParsePage     = parsePage
	ParseProblem  = parseProblem
	ETag          = etag
	DefaultClient = defaultClient
)

const (
	Timeout      = timeout
	MaxPageBody  = maxPageBody
	MaxProblem   = maxProblem
	DefaultLimit = defaultLimit
	MaxBuckets   = maxBuckets
	ProblemType  = problemType
	ProblemURN   = problemURN
)

// Buckets returns how many buckets a handler remembers, of addresses and of records.
func Buckets(h http.Handler) (addresses, records int) {
	x := h.(*handler)
	return len(x.clients.full.young) + len(x.clients.full.old), len(x.records.full.young) + len(x.records.full.old)
}

// Remembered returns how many records a client remembers.
func Remembered(c *Client) (asked, revoked, listed int) {
	count := func(c *cacheOfRecords) int { return len(c.young) + len(c.old) }
	return count(&c.seen.asked), count(&c.seen.revoked), count(&c.seen.listed)
}
