package capture

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/refitml/refit/internal/lifecycle"
)

// rowsOfGroup bounds the rows of one row group, and so the memory of who writes and reads an archive.
const rowsOfGroup = 10_000

// archivedInteraction is an interaction's row in an archive. Columns are only ever added; their names are the
// database's.
type archivedInteraction struct {
	Service          string    `parquet:"service,dict"`
	ID               string    `parquet:"id"`
	Conversation     string    `parquet:"conversation"`
	Turn             int64     `parquet:"turn"`
	Client           string    `parquet:"client,dict"`
	Owner            string    `parquet:"owner,dict"`
	Release          string    `parquet:"release,dict"`
	Rollout          string    `parquet:"rollout,dict"`
	Step             int64     `parquet:"step"`
	Canary           bool      `parquet:"canary"`
	Coin             bool      `parquet:"coin"`
	Propensity       float64   `parquet:"propensity"`
	Moved            bool      `parquet:"moved"`
	Rescued          bool      `parquet:"rescued"`
	Endpoint         string    `parquet:"endpoint,dict"`
	Started          time.Time `parquet:"started,timestamp(microsecond)"`
	Retrieval        float64   `parquet:"retrieval"`
	Queue            float64   `parquet:"queue"`
	FirstToken       float64   `parquet:"first_token"`
	Model            float64   `parquet:"model"`
	PostProcessing   float64   `parquet:"post_processing"`
	Total            float64   `parquet:"total"`
	PromptTokens     int64     `parquet:"prompt_tokens"`
	CompletionTokens int64     `parquet:"completion_tokens"`
	Outcome          string    `parquet:"outcome,dict"`
	Status           int64     `parquet:"status"`
	Guardrails       []string  `parquet:"guardrails,list"`
	Finish           string    `parquet:"finish,dict"`
	Passages         []string  `parquet:"passages,list"`
	Scores           []float64 `parquet:"scores,list"`
	Parameters       string    `parquet:"parameters,json"`
	Used             string    `parquet:"used,json"`
	Content          string    `parquet:"content,dict"`
	Input            string    `parquet:"input"`
	Output           string    `parquet:"output"`
}

// archivedFeedback is feedback's row in an archive.
type archivedFeedback struct {
	Service     string    `parquet:"service,dict"`
	ID          string    `parquet:"id"`
	Interaction string    `parquet:"interaction"`
	Kind        string    `parquet:"kind,dict"`
	Reason      string    `parquet:"reason"`
	Correction  string    `parquet:"correction"`
	At          time.Time `parquet:"at,timestamp(microsecond)"`
	Owner       string    `parquet:"owner,dict"`
}

func archived(i lifecycle.Interaction) (archivedInteraction, error) {
	used, err := json.Marshal(i.Used)
	if err != nil {
		return archivedInteraction{}, err
	}
	parameters := string(i.Parameters)
	if parameters == "" {
		parameters = "{}"
	}
	return archivedInteraction{
		Service: i.Service, ID: i.ID, Conversation: i.Conversation, Turn: int64(i.Turn), Client: i.Client, Owner: i.Owner,
		Release: string(i.Release), Rollout: i.Rollout, Step: int64(i.Step), Canary: i.Canary, Coin: i.Coin,
		Propensity: i.Propensity, Moved: i.Moved, Rescued: i.Rescued, Endpoint: i.Endpoint, Started: i.Started,
		Retrieval: i.Latency.Retrieval, Queue: i.Latency.Queue, FirstToken: i.Latency.FirstToken, Model: i.Latency.Model,
		PostProcessing: i.Latency.PostProcessing, Total: i.Latency.Total, PromptTokens: int64(i.Usage.Prompt),
		CompletionTokens: int64(i.Usage.Completion), Outcome: i.Outcome, Status: int64(i.Status), Guardrails: i.Guardrails,
		Finish: i.Finish, Passages: i.Passages, Scores: i.Scores, Parameters: parameters, Used: string(used),
		Content: string(i.Content), Input: i.Input, Output: i.Output,
	}, nil
}

func (a archivedInteraction) interaction() (lifecycle.Interaction, error) {
	i := lifecycle.Interaction{
		Service: a.Service, ID: a.ID, Conversation: a.Conversation, Turn: int(a.Turn), Client: a.Client, Owner: a.Owner,
		Release: lifecycle.Digest(a.Release), Rollout: a.Rollout, Step: int(a.Step), Canary: a.Canary, Coin: a.Coin,
		Propensity: a.Propensity, Moved: a.Moved, Rescued: a.Rescued, Endpoint: a.Endpoint, Started: a.Started.UTC(),
		Latency: lifecycle.Latency{
			Retrieval: a.Retrieval, Queue: a.Queue, FirstToken: a.FirstToken, Model: a.Model, PostProcessing: a.PostProcessing, Total: a.Total,
		},
		Usage:   lifecycle.Usage{Prompt: int(a.PromptTokens), Completion: int(a.CompletionTokens)},
		Outcome: a.Outcome, Status: int(a.Status), Guardrails: a.Guardrails, Finish: a.Finish, Passages: a.Passages,
		Scores: a.Scores, Parameters: json.RawMessage(a.Parameters), Content: lifecycle.Content(a.Content),
		Input: a.Input, Output: a.Output,
	}
	return i, json.Unmarshal([]byte(a.Used), &i.Used)
}

// archive writes rows of one kind as Parquet. The same rows give the same bytes.
type archive[Row any] struct {
	writer *parquet.GenericWriter[Row]
	rows   int64
}

func newArchive[Row any](to io.Writer) *archive[Row] {
	return &archive[Row]{writer: parquet.NewGenericWriter[Row](to,
		parquet.Compression(&zstd.Codec{}), parquet.MaxRowsPerRowGroup(rowsOfGroup),
		parquet.CreatedBy("refit", "1", ""), // not the library's version: a newer one writes no other day
	)}
}

func (a *archive[Row]) add(row Row) error {
	_, err := a.writer.Write([]Row{row})
	a.rows++
	return err
}

// ReadInteractions gives the interactions of an archive in the order in which they stand there.
func ReadInteractions(from io.ReaderAt, size int64, each func(lifecycle.Interaction) error) error {
	return readArchive(from, size, func(row archivedInteraction) error {
		i, err := row.interaction()
		if err != nil {
			return lifecycle.Errorf(lifecycle.Corrupt, "interaction %s in the archive: %w", row.ID, err)
		}
		return each(i)
	})
}

// ReadFeedback gives the feedback of an archive in the order in which it stands there.
func ReadFeedback(from io.ReaderAt, size int64, each func(lifecycle.Feedback) error) error {
	return readArchive(from, size, func(row archivedFeedback) error {
		return each(lifecycle.Feedback{
			Service: row.Service, ID: row.ID, Interaction: row.Interaction, Kind: row.Kind, Reason: row.Reason,
			Correction: row.Correction, At: row.At.UTC(), Owner: row.Owner,
		})
	})
}

func readArchive[Row any](from io.ReaderAt, size int64, each func(Row) error) (err error) {
	defer func() {
		if r := recover(); r != nil { // the library panics at some files that are none
			err = lifecycle.Errorf(lifecycle.Corrupt, "read an archive: %v", r)
		}
	}()
	file, err := parquet.OpenFile(from, size)
	if err != nil {
		return lifecycle.Errorf(lifecycle.Corrupt, "open an archive: %w", err)
	}
	reader := parquet.NewGenericReader[Row](file)
	defer func() { _ = reader.Close() }() // it was only read
	rows := make([]Row, 256)
	for {
		n, err := reader.Read(rows)
		for _, row := range rows[:n] {
			if err := each(row); err != nil {
				return err
			}
		}
		clear(rows) // what is read next must not share memory with what was given out
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return lifecycle.Errorf(lifecycle.Corrupt, "read an archive: %w", err)
		case n == 0:
			return fmt.Errorf("read an archive: %w", io.ErrNoProgress)
		}
	}
}
