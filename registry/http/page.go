package httpregistry

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// A wireName is the answer to who has a name.
type wireName struct {
	ID string `json:"id"`
}

func parseName(body []byte) (identity.ID, error) {
	var w wireName
	if err := json.Unmarshal(body, &w); err != nil {
		return identity.ID{}, err
	}
	return identity.ParseID(w.ID)
}

// A wirePage is a page of a list. Next is the ID after which the next page is to be.
type wirePage struct {
	Records [][]byte `json:"records"`
	Next    string   `json:"next,omitempty"`
}

func encodePage(records []*registry.Record, next identity.ID) wirePage {
	page := wirePage{Records: make([][]byte, len(records))}
	for i, r := range records {
		page.Records[i] = r.Marshal()
	}
	if !next.IsZero() {
		page.Next = next.String()
	}
	return page
}

// parsePage reads a page of at most n records of IDs after the one given. They are signed and in order; whether they may
// be used now is left to be checked.
func parsePage(body []byte, after identity.ID, n int) (records []*registry.Record, next identity.ID, err error) {
	var page wirePage
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, next, err
	}
	if len(page.Records) > n {
		return nil, next, fmt.Errorf("%d records, and %d were asked for", len(page.Records), n)
	}
	last := after
	for i, b := range page.Records {
		r, err := registry.Parse(b)
		if err != nil {
			return nil, next, fmt.Errorf("number %d: %w", i, err)
		}
		if r.ID.Compare(last) <= 0 {
			return nil, next, fmt.Errorf("number %d is out of order", i)
		}
		last = r.ID
		records = append(records, r)
	}
	if page.Next == "" {
		return records, next, nil
	}
	if next, err = identity.ParseID(page.Next); err != nil {
		return nil, identity.ID{}, fmt.Errorf("next: %w", err)
	}
	if next.Compare(last) < 0 || next == after { // a reader would go round in circles
		return nil, identity.ID{}, errors.New("next is before what was read")
	}
	return records, next, nil
}
