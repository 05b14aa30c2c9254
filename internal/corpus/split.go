package corpus

import (
	"cmp"
	"math"
)

// What the held-out part is drawn by.
const (
	SplitByDocument = "document"
	SplitBySource   = "source" // all documents of a source fall on one side
)

// Names of the two parts of a dataset, and of their folders.
const (
	TrainSplit   = "train"
	HeldOutSplit = "heldout"
)

// Split holds a share of documents out, by a hash of ID or source: a document falls on the same side in every
// build, whatever stands beside it. share lies from 0 to 1; the share that comes out is near it, not equal. Where
// the hash would leave a side empty and there are two groups or more, the group nearest to the border goes there
// (a share of 0 or less holds nothing out). The order of documents is kept.
func Split(docs []Document, share float64, by string) (train, heldOut []Document) {
	if share <= 0 || len(docs) == 0 {
		return docs, nil
	}
	border := uint64(math.MaxUint64)
	if share < 1 {
		border = uint64(share*(1<<53)) << 11
	}
	places := make([]uint64, len(docs))
	least, most := uint64(math.MaxUint64), uint64(0)
	for i, d := range docs {
		key := d.ID
		if by == SplitBySource {
			key = cmp.Or(d.Source, d.ID)
		}
		places[i] = hashText("held out", key)
		least, most = min(least, places[i]), max(most, places[i])
	}
	if least < most { // two groups at least: each side gets one
		border = min(max(border, least+1), most)
	}
	for i, d := range docs {
		if places[i] < border {
			heldOut = append(heldOut, d)
		} else {
			train = append(train, d)
		}
	}
	return train, heldOut
}
