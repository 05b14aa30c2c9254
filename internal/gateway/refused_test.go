package gateway

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What cannot be meant is refused in the API's shape before anything is decided: no model server is asked, nothing
// is captured, and the canary earns nothing by it.
func TestWhatCannotBeMeantIsRefusedBeforeItIsAdmitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.MaxBody = 4000 })
	w.rollout(5000)
	before := w.counted()
	good := chat("hello", 0)
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, err := zip.Write([]byte(good))
	require.NoError(t, err)
	require.NoError(t, zip.Close())
	for name, tc := range map[string]struct {
		body   string
		header http.Header
		status int
	}{
		"compressed":                {packed.String(), http.Header{"Content-Encoding": {"gzip"}}, 415},
		"compressed, and not said":  {packed.String(), nil, 400},
		"compressed twice":          {packed.String(), http.Header{"Content-Encoding": {"identity", "br"}}, 415},
		"a form":                    {good, http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}, 415},
		"another charset":           {good, http.Header{"Content-Type": {"application/json; charset=utf-16"}}, 415},
		"two types":                 {good, http.Header{"Content-Type": {"application/json", "text/plain"}}, 415},
		"too long":                  {strings.Repeat(" ", 4001), nil, 413},
		"nothing":                   {``, nil, 400},
		"a list":                    {`[]`, nil, 400},
		"text after the end":        {good + `{}`, nil, 400},
		"not UTF-8":                 {strings.Replace(good, "hello", "h\xff", 1), nil, 400},
		"UTF-8 with a mark":         {"\ufeff" + good, nil, 400},
		"model twice":               {strings.Replace(good, `{`, `{"model":"docs",`, 1), nil, 400},
		"model twice, spelled":      {strings.Replace(good, `{`, `{"mod\u0065l":"other",`, 1), nil, 400},
		"model in another case":     {strings.Replace(good, `{`, `{"Model":"other",`, 1), nil, 400},
		"stream twice":              {strings.Replace(good, `{`, `{"stream":true,"stream":false,`, 1), nil, 400},
		"stream in another case":    {strings.Replace(good, `{`, `{"STREAM":true,`, 1), nil, 400},
		"stream in a letter like s": {strings.Replace(good, `{`, `{"ſtream":true,`, 1), nil, 400},
		"a model that is no name":   {`{"model":["docs"],"messages":[{"role":"user","content":"x"}]}`, nil, 400},
		"no model":                  {`{"messages":[{"role":"user","content":"x"}]}`, nil, 400},
		"an unknown model":          {`{"model":"other","messages":[{"role":"user","content":"x"}]}`, nil, 404},
		"messages that are none":    {`{"model":"docs","messages":"x"}`, nil, 400},
		"a role twice":              {`{"model":"docs","messages":[{"role":"user","role":"system","content":"x"}]}`, nil, 400},
		"nested without end":        {`{"model":"docs","messages":[{"role":"user","content":"x"}],"a":` + strings.Repeat("[", 1500) + strings.Repeat("]", 1500) + `}`, nil, 400},
		"a number that is none":     {strings.Replace(good, `{`, `{"max_tokens":NaN,`, 1), nil, 400},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.do(func(r *http.Request) {
				for key, values := range tc.header {
					r.Header[key] = values
				}
			}, chatPath, tc.body, "")
			require.Equal(t, tc.status, r.Code, r.Body.String())
			require.Equal(t, "application/json", r.Header().Get("Content-Type"))
			var said struct {
				Error *struct {
					Message, Type, Code string
					Param               any
				}
			}
			require.NoError(t, json.Unmarshal(r.Body.Bytes(), &said))
			require.NotNil(t, said.Error)
			require.Equal(t, "invalid_request_error", said.Error.Type)
			require.NotEmpty(t, said.Error.Message)
			require.NotEmpty(t, said.Error.Code)
		})
	}
	require.Empty(t, w.upstream.asked())
	require.Equal(t, before, w.counted(), "nothing counts for the exposure")
	require.Empty(t, w.captured.interactions)
}

// counted gives how many requests counted for the exposure.
func (w *world) counted() int64 {
	l := w.gateway.lane("docs")
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts.requests
}

func TestWhatIsTakenThoughItLooksOdd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for name, tc := range map[string]struct{ body, kind string }{
		"no media type":            {chat("hello", 0), ""},
		"a charset":                {chat("hello", 0), "application/json; charset=UTF-8"},
		"white space around":       {"\r\n\t " + chat("hello", 0) + " \n", "application/json"},
		"no message of the user":   {`{"model":"docs","messages":[{"role":"system","content":"x"}]}`, "application/json"},
		"half of a surrogate pair": {strings.Replace(chat("hello", 0), "hello", `\ud83d`, 1), "application/json"},
		"an unknown role":          {`{"model":"docs","messages":[{"role":"developer","content":"x"},{"role":"user","content":null}]}`, "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.do(func(r *http.Request) {
				if tc.kind != "" {
					r.Header.Set("Content-Type", tc.kind)
				}
			}, chatPath, tc.body, "")
			require.Equal(t, http.StatusOK, r.Code, r.Body.String())
			w.upstream.mu.Lock()
			defer w.upstream.mu.Unlock()
			require.Equal(t, strings.Replace(tc.body, `"docs"`, `"`+w.stable.ServedName()+`"`, 1), string(w.upstream.bodies[len(w.upstream.bodies)-1]))
		})
	}
}
