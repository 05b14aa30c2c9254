package compute

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/refitml/refit/internal/lifecycle"
)

const (
	progressTail = 64 << 10 // bytes of a progress file that are looked at; a longer line is not seen
	logTailMost  = 1 << 20
)

// lastProgress gives the newest whole report in the end of a progress file. fromStart says that tail is the
// whole file; otherwise its first line may be torn and is not trusted. Neither is a last line without its line feed,
// which is still being written. Lines that are no report are passed over; none gives nil.
func lastProgress(tail []byte, fromStart bool) *lifecycle.Progress {
	if !fromStart {
		_, rest, found := bytes.Cut(tail, []byte("\n"))
		if !found {
			return nil
		}
		tail = rest
	}
	for {
		end := bytes.LastIndexByte(tail, '\n')
		if end < 0 {
			return nil
		}
		begin := bytes.LastIndexByte(tail[:end], '\n') + 1
		if p := parseProgress(tail[begin:end]); p != nil {
			return p
		}
		tail = tail[:begin]
	}
}

// parseProgress reads one report. Step and total must be there and not negative; unknown fields are left
// to newer readers.
func parseProgress(line []byte) *lifecycle.Progress {
	var must struct {
		Step  *int64 `json:"step"`
		Total *int64 `json:"total"`
	}
	var p lifecycle.Progress
	if json.Unmarshal(line, &must) != nil || json.Unmarshal(line, &p) != nil {
		return nil
	}
	if must.Step == nil || must.Total == nil || p.Step < 0 || p.Total < 0 {
		return nil
	}
	return &p
}

// readTail reads at most limit bytes from the end of a file and says whether that was all of it. A file that
// is not there is empty.
func readTail(path string, limit int64) (tail []byte, whole bool, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, false, err
	}
	from := max(0, info.Size()-limit)
	tail, err = io.ReadAll(io.NewSectionReader(file, from, limit))
	if err != nil {
		return nil, false, fmt.Errorf("read the end of %s: %w", path, err)
	}
	return tail, from == 0, nil
}
