package gateway

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// TestARollbackHoldsOnEveryReplica rolls back in a real registry with gateways at work: once a gateway has reported
// the new generation, no request of it goes to the canary. What makes that quick is the notification, and a look
// every half second where that is lost.
func TestARollbackHoldsOnEveryReplica(t *testing.T) {
	t.Parallel()
	const gateways = 5
	f := newFleet(t, gateways)
	f.share(9000)
	f.inForceEverywhere(9000)
	for i := range 100 {
		f.members[i%gateways].ask(chatPath, chat(fmt.Sprint("words ", i), 0), "")
	}
	require.Contains(t, f.upstream.asked(), f.world.canary.ServedName())

	began := time.Now()
	route, _, err := f.registry.RollBack(t.Context(), registry.Rollback{Service: "docs", By: tester, Reason: "test"})
	require.NoError(t, err)
	for _, m := range f.members {
		require.Eventually(t, func() bool {
			reports, err := f.registry.Gateways(t.Context(), "docs", time.Minute)
			require.NoError(t, err)
			for _, r := range reports {
				if r.Gateway == m.config.ID {
					return r.Generation >= route.Generation
				}
			}
			return false
		}, 30*time.Second, time.Millisecond)
		before := len(f.upstream.asked())
		for i := range 100 { // conversations that were on the canary, too
			require.Equal(t, string(f.world.stable.ID()), m.ask(chatPath, chat(fmt.Sprint("words ", i), 1), "").release())
		}
		require.NotContains(t, f.upstream.asked()[before:], f.world.canary.ServedName())
	}
	t.Logf("%d gateways reported the new route, and were asked, within %v", gateways, time.Since(began).Round(time.Millisecond))
}

func TestAStreamEndsWhereItBegan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(9000)
	words, token := w.canaryTalk()
	began, goOn := make(chan struct{}), make(chan struct{})
	w.upstream.behave(func(rw http.ResponseWriter, r *http.Request, model string) bool {
		if model != w.canary.ServedName() {
			return false
		}
		rw.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(rw, "data: {\"model\":%q,\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"one \"}}]}\n\n", model)
		_ = http.NewResponseController(rw).Flush()
		close(began)
		<-goOn
		fmt.Fprintf(rw, "data: {\"model\":%q,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"two\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", model)
		return true
	})
	server := httptest.NewServer(w.handler)
	defer server.Close()
	request, err := http.NewRequest(http.MethodPost, server.URL+chatPath, strings.NewReader(strings.Replace(chat(words, 1), `{`, `{"stream":true,`, 1)))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(headerConversation, token)
	answered := make(chan []string, 1)
	go func() {
		var lines []string
		if r, err := server.Client().Do(request); err == nil {
			defer r.Body.Close()
			lines = append(lines, r.Header.Get(headerRelease))
			for scan := bufio.NewScanner(r.Body); scan.Scan(); {
				lines = append(lines, scan.Text())
			}
		}
		answered <- lines
	}()
	<-began
	w.route(func(r *lifecycle.Route) { r.Canary, r.Rollout, r.Share = "", "", 0 }) // rolled back
	require.Equal(t, string(w.stable.ID()), w.ask(chatPath, chat("somebody else", 0), "").release())
	close(goOn)
	lines := <-answered
	require.NotEmpty(t, lines)
	require.Equal(t, string(w.canary.ID()), lines[0])
	require.Contains(t, strings.Join(lines, "\n"), "two")
	require.Contains(t, lines, "data: [DONE]")
	require.Equal(t, "ok", w.captured.last(t).Outcome)
}

func TestWhoSaysWhichReleaseItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.rollout(100)
	w.upstream.behave(func(rw http.ResponseWriter, _ *http.Request, _ string) bool {
		for _, name := range []string{headerRelease, headerConversation, headerInteraction} {
			rw.Header().Set(name, "the model server's word")
		}
		return false
	})
	r := w.do(func(r *http.Request) {
		r.Header.Set(headerRelease, string(w.canary.ID()))
		r.Header.Set(headerInteraction, "int-mine")
		r.Header.Set(headerHash, strings.Repeat("0", 32))
	}, chatPath, chat("hello", 0), "a client's word")
	require.Equal(t, http.StatusOK, r.Code)
	require.Equal(t, []string{string(w.stable.ID())}, r.Header().Values(headerRelease), "a client does not choose it, and a server does not say it")
	require.NotContains(t, r.Header().Get(headerConversation), "word")
	_, signed := w.gateway.signer.open("docs", r.Header().Get(headerConversation))
	require.True(t, signed)
	require.Equal(t, []string{w.captured.last(t).ID}, r.Header().Values(headerInteraction))
	w.upstream.mu.Lock()
	defer w.upstream.mu.Unlock()
	got := w.upstream.header[len(w.upstream.header)-1]
	require.Empty(t, got.Values(headerRelease), "nor does it hear of it")
	require.NotEqual(t, strings.Repeat("0", 32), got.Get(headerHash))
}

func TestConversationsAreKnownByTheirNameOrFirstWords(t *testing.T) {
	t.Parallel()
	s := newSigner(bytes.Repeat([]byte("k"), 32))
	header := func(name string) http.Header { return http.Header{"X-Thread": {name}} }
	hash := func(client, first, name, named string) conversationHash {
		h := header(name)
		tok, signed := s.identify("docs", client, []byte(first), h, Config{ConversationHeader: named}.named(h))
		require.False(t, signed)
		return tok.hash
	}
	a := hash("ann", "hello", "t1", "X-Thread")
	require.Equal(t, a, hash("ann", "other words", "t1", "X-Thread"), "the name tells, whatever was said")
	require.NotEqual(t, a, hash("ann", "hello", "t2", "X-Thread"))
	require.NotEqual(t, a, hash("bob", "hello", "t1", "X-Thread"), "a name is its client's")
	require.NotEqual(t, a, hash("ann", "t1", "", "X-Thread"), "words are no name")
	require.Equal(t, hash("ann", "hello", "", "X-Thread"), hash("ann", "hello", "t1", ""), "no header is looked at unless one is configured")
	require.Equal(t, hash("ann", "hello", "", ""), hash("ann", "hello", strings.Repeat("x", 300), "X-Thread"), "a name too long is none")
	signed := token{hash: conversationHash{1}}
	h := header("t1")
	h.Set(headerConversation, s.seal("docs", signed))
	tok, ok := s.identify("docs", "ann", nil, h, "t1")
	require.True(t, ok, "the token comes before the name")
	require.Equal(t, signed, tok)
}

func TestAClaimOfAJWTNamesAConversation(t *testing.T) {
	t.Parallel()
	jwt := func(payload string) string {
		return "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2lnbmVk"
	}
	long := strings.Repeat("x", maxName+1)
	for value, want := range map[string]string{
		jwt(`{"sid":"a","sub":"ann"}`):      "a",
		"Bearer " + jwt(`{"sid":"a"}`):      "a",
		jwt(`{"sid":12345678901234567890}`): "12345678901234567890",
		jwt(`{"sub":"ann"}`):                "",
		jwt(`{"sid":{"of":"a"}}`):           "",
		jwt(`{"sid":null}`):                 "",
		jwt(`{"sid":"` + long + `"}`):       "",
		jwt(`{"sid":"a"`):                   "",
		"a":                                 "",
		"a.b":                               "",
		"a.!.c":                             "",
		jwt(`{"x":"` + strings.Repeat("x", maxJWT) + `","sid":"a"}`): "",
	} {
		c := Config{ConversationHeader: "X-Id-Token", ConversationClaim: "sid"}
		require.Equal(t, want, c.named(http.Header{"X-Id-Token": {value}}), "%.80s", value)
	}
	_, err := Config{ConversationClaim: "sid"}.withDefaults()
	require.ErrorContains(t, err, "gateway.conversation_header")
}
