package bpe

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// File is the name of the tokenizer in a model folder.
const File = "tokenizer.json"

type tokenizerFile struct {
	Version       string          `json:"version"`
	Truncation    json.RawMessage `json:"truncation"`
	Padding       json.RawMessage `json:"padding"`
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  byteLevel       `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       byteLevel       `json:"decoder"`
	Model         modelFile       `json:"model"`
}

type addedToken struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

type byteLevel struct {
	Type           string `json:"type"`
	AddPrefixSpace bool   `json:"add_prefix_space"`
	TrimOffsets    bool   `json:"trim_offsets"`
	UseRegex       bool   `json:"use_regex"`
}

type modelFile struct {
	Type                    string          `json:"type"`
	Dropout                 json.RawMessage `json:"dropout"`
	UnkToken                json.RawMessage `json:"unk_token"`
	ContinuingSubwordPrefix json.RawMessage `json:"continuing_subword_prefix"`
	EndOfWordSuffix         json.RawMessage `json:"end_of_word_suffix"`
	FuseUnk                 bool            `json:"fuse_unk"`
	ByteFallback            bool            `json:"byte_fallback"`
	IgnoreMerges            bool            `json:"ignore_merges"`
	Vocab                   map[string]int  `json:"vocab"`
	Merges                  [][2]string     `json:"merges"`
}

// visible maps each byte to the printable rune that stands for it in tokenizer.json, as GPT-2 does: printable
// Latin-1 stands for itself, the others follow from U+0100.
var visible = func() (v [256]rune) {
	next := rune(256)
	for b := range 256 {
		if b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE {
			v[b] = rune(b)
			continue
		}
		v[b] = next
		next++
	}
	return v
}()

func show(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(visible[s[i]])
	}
	return b.String()
}

// MarshalJSON writes the form of Hugging Face's tokenizers. Equal tokenizers give equal bytes.
func (t *Tokenizer) MarshalJSON() ([]byte, error) {
	level := byteLevel{Type: "ByteLevel", TrimOffsets: true, UseRegex: true}
	f := tokenizerFile{
		Version:      "1.0",
		AddedTokens:  []addedToken{{ID: EndOfText, Content: EndOfTextName, Special: true}},
		PreTokenizer: level,
		Decoder:      level,
		Model:        modelFile{Type: "BPE", Vocab: map[string]int{EndOfTextName: EndOfText}, Merges: [][2]string{}},
	}
	for token := firstByte; token < len(t.bytes); token++ {
		f.Model.Vocab[show(t.bytes[token])] = token
	}
	for _, m := range t.merges {
		f.Model.Merges = append(f.Model.Merges, [2]string{show(t.bytes[m.left]), show(t.bytes[m.right])})
	}
	return json.Marshal(f)
}

// UnmarshalJSON reads a file that MarshalJSON wrote (or one of the same kind); see the package's comment.
func (t *Tokenizer) UnmarshalJSON(raw []byte) error {
	var f tokenizerFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return fmt.Errorf("decode tokenizer: %w", err)
	}
	for name, part := range map[string]json.RawMessage{
		"normalizer": f.Normalizer, "post_processor": f.PostProcessor, "truncation": f.Truncation, "padding": f.Padding,
		"model.dropout": f.Model.Dropout, "model.unk_token": f.Model.UnkToken,
		"model.continuing_subword_prefix": f.Model.ContinuingSubwordPrefix, "model.end_of_word_suffix": f.Model.EndOfWordSuffix,
	} {
		if s := string(part); s != "" && s != "null" && s != `""` {
			return fmt.Errorf("decode tokenizer: %s is not supported", name)
		}
	}
	p := f.PreTokenizer
	if f.Model.Type != "BPE" || f.Model.IgnoreMerges || p.Type != "ByteLevel" || p.AddPrefixSpace || !p.UseRegex {
		return fmt.Errorf("decode tokenizer: only BPE with ByteLevel words and no prefix space is supported")
	}
	if len(f.AddedTokens) != 1 || f.AddedTokens[0].ID != EndOfText || f.AddedTokens[0].Content != EndOfTextName {
		return fmt.Errorf("decode tokenizer: the one added token must be %s with ID %d", EndOfTextName, EndOfText)
	}
	ids := map[string]int{}
	for b := range 256 {
		ids[string(visible[b])] = byteToken(byte(b))
	}
	var merges []pair
	for i, m := range f.Model.Merges {
		left, okLeft := ids[m[0]]
		right, okRight := ids[m[1]]
		joined := m[0] + m[1]
		if _, twice := ids[joined]; !okLeft || !okRight || twice {
			return fmt.Errorf("decode tokenizer: merge %d does not join two known tokens into a new one", i)
		}
		ids[joined] = firstMerge + i
		merges = append(merges, pair{left, right})
	}
	if len(f.Model.Vocab) != len(ids)+1 {
		return fmt.Errorf("decode tokenizer: %d tokens in vocab, the merges make %d", len(f.Model.Vocab), len(ids)+1)
	}
	for name, id := range ids {
		if got, ok := f.Model.Vocab[name]; !ok || got != id {
			return fmt.Errorf("decode tokenizer: token %q must have ID %d: IDs follow bytes and merges", name, id)
		}
	}
	*t = *newTokenizer(merges)
	return nil
}

// ReadFile reads a tokenizer.json.
func ReadFile(path string) (*Tokenizer, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the tokenizer: %w", err)
	}
	t := new(Tokenizer)
	if err := json.Unmarshal(raw, t); err != nil {
		return nil, fmt.Errorf("read the tokenizer %s: %w", path, err)
	}
	return t, nil
}

// WriteFile writes a tokenizer.json.
func (t *Tokenizer) WriteFile(path string) error {
	raw, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode the tokenizer: %w", err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		return fmt.Errorf("write the tokenizer: %w", err)
	}
	return nil
}
