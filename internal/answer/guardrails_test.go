package answer

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

func rulesOf(t require.TestingT, rules ...lifecycle.Rule) *chain {
	c, err := newChain(rules)
	require.NoError(t, err)
	return c
}

func TestPersonalDataIsFoundByItsKind(t *testing.T) {
	t.Parallel()
	c := rulesOf(t, lifecycle.Rule{Kind: lifecycle.RulePII})
	for text, want := range map[string]string{
		"write to jane.doe+x@mail.example.com.":             "write to [email].",
		"<a@b.co>, x@y@z.org":                               "<[email]>, x@[email]",
		"émile@x.de and a@1.2 and @home and a@b":            "é[email] and a@1.2 and @home and a@b",
		"mailto:j@x-y.travel?subject=1":                     "mailto:[email]?subject=1",
		"4111 1111 1111 1111":                               "[card]",
		"card 4111-1111-1111-1111, not 4111-1111-1111-1112": "card [card], not 4111-1111-1111-1112",
		"378282246310005 or 5 4111111111111111":             "[card] or 5 [card]",
		"no. 41111111111111111111":                          "no. 41111111111111111111",
		"DE89 3704 0044 0532 0130 00 is mine":               "[iban] is mine",
		"GB82WEST12345698765432.":                           "[iban].",
		"DE88 3704 9044 9532 9130 90":                       "DE88 3704 9044 9532 9130 90",
		"from 192.168.2.1:8080, 10.0.0.256 and 1.2.3":       "from [ip]:8080, 10.0.0.256 and 1.2.3",
		"at 2001:db8::8a2e:370:7334, fe80::1.":              "at [ip], [ip].",
		"at 12:30:45 std::vector a :: b ::1":                "at 12:30:45 std::vector a :: b ::1",
		"call +49 (30) 1234-567 or (030) 123 45 67.":        "call [phone] or [phone].",
		"call 555-123-4567 or 030/12345678":                 "call [phone] or [phone]",
		"on 01.02.2024, 2024-01-15, 12345678, 3.14159":      "on 01.02.2024, 2024-01-15, 12345678, 3.14159",
		"+++ 1 + 2 = 3, (a) (1) (":                          "+++ 1 + 2 = 3, (a) (1) (",
	} {
		got, _ := c.whole(text)
		require.Equal(t, want, got)
	}
	_, p := c.whole("a@b.co and 10.0.0.1 and c@d.eu")
	require.Equal(t, []string{"pii[0]:email", "pii[0]:ip"}, p.hits, "each kind is named once")
	got, p := rulesOf(t, lifecycle.Rule{Kind: lifecycle.RulePII, Value: "ip, card", Action: "count"}).whole("a@b.co 10.0.0.1")
	require.Equal(t, "a@b.co 10.0.0.1", got)
	require.Equal(t, []string{"pii[0]:ip"}, p.hits)
	got, p = rulesOf(t, lifecycle.Rule{Kind: lifecycle.RulePII, Value: "email", Action: "refuse", Notice: "No."}).whole("it is a@b.co")
	require.Equal(t, "No.", got)
	require.True(t, p.refused)
}

func TestPersonalDataIsSeenOverChunksAndLittleIsHeldBack(t *testing.T) {
	t.Parallel()
	p := rulesOf(t, lifecycle.Rule{Kind: lifecycle.RulePII}).start()
	require.Equal(t, "write to ", p.feed("write to jan", false), "a word may become an address")
	require.Equal(t, "", p.feed("e@mail.exa", false))
	require.Equal(t, "[email], ", p.feed("mple.org, ", false))
	require.Equal(t, "", p.feed("4111 11", false))
	require.Equal(t, "", p.feed("11 1111 1", false))
	require.Equal(t, "[card] and more ", p.feed("111 and more ", false))
	for range 3000 {
		p.feed("x1.", false)
		require.LessOrEqual(t, p.stages[0].(*piiStage).scan.Held(), 330, "what is held back is bounded")
	}
}

func TestRefusalPhrasesAreCounted(t *testing.T) {
	t.Parallel()
	c := rulesOf(t, lifecycle.Rule{Kind: lifecycle.RuleRefusal, Value: "I can't help with that\nas an AI\n\n"})
	for text, want := range map[string]bool{
		"Sorry, I can’t  help\nwith THAT.": true, "As an AI model": true, "I can help with that": false, "": false, "as  an": false,
	} {
		got, p := c.whole(text)
		require.Equal(t, text, got, "the answer passes")
		require.Equal(t, want, p.denied, text)
	}
	m := newModelServer(t, streaming(chunk("Sorry, I can’"), chunk("t help wi"), chunk("th that"), stop, ending))
	marked := func(r *lifecycle.Release) {
		r.PostProcess = []lifecycle.Rule{{Kind: lifecycle.RuleRefusal, Value: "I can't help with that", Action: "mark"}}
	}
	c2, result, err := ask(t, ready(t, marked, nil), m, Chat, asking)
	require.NoError(t, err)
	content, finish, clean := read(t, c2.body.String())
	require.True(t, clean)
	require.Equal(t, "Sorry, I can’t help with that", content)
	require.Equal(t, finishFilter, finish)
	require.Equal(t, OutcomeRefused, result.Outcome, "it is a refusal, though the model's own")
	require.Equal(t, []string{"refusal-phrase[0]"}, result.Guardrails)
}

func TestAnswersThatMustBeJSON(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		action          string
		pieces          []string
		content, finish string
		hits            []string
	}{
		"valid":             {"refuse", []string{`{"a":`, `1}`, "\n"}, "{\"a\":1}\n", "stop", nil},
		"counted":           {"", []string{`{"a":`, `1`}, `{"a":1`, "stop", []string{"json[0]"}},
		"marked":            {"mark", []string{"```", `{}`}, "```{}", finishFilter, []string{"json[0]"}},
		"refused":           {"refuse", []string{`{"a":`, `oops`}, "No.", finishFilter, []string{"json[0]"}},
		"nothing":           {"", []string{}, "", "stop", []string{"json[0]"}},
		"too long to tell":  {"refuse", []string{strings.Repeat("[", 1000), strings.Repeat(" ", maxJSON)}, "No.", finishFilter, []string{"json[0]"}},
		"valid and counted": {"count", []string{`[1,`, `2]`}, "[1,2]", "stop", nil},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var pieces []string
			for _, p := range tc.pieces {
				pieces = append(pieces, chunk(p))
			}
			rule := lifecycle.Rule{Kind: lifecycle.RuleJSON, Action: tc.action, Notice: "No."}
			b := ready(t, func(r *lifecycle.Release) { r.PostProcess = []lifecycle.Rule{rule} }, nil)
			m := newModelServer(t, streaming(append(pieces, stop, ending)...))
			c, result, err := ask(t, b, m, Chat, asking)
			require.NoError(t, err)
			content, finish, clean := read(t, c.body.String())
			require.True(t, clean)
			require.Equal(t, tc.content, content)
			require.Equal(t, tc.finish, finish)
			require.Equal(t, tc.hits, result.Guardrails)
		})
	}
	m := newModelServer(t, saying(`{"choices":[{"index":0,"message":{"content":null,"tool_calls":[{"function":{"arguments":"{"}}]},"finish_reason":"tool_calls"}]}`))
	b := ready(t, func(r *lifecycle.Release) {
		r.PostProcess = []lifecycle.Rule{{Kind: lifecycle.RuleJSON, Action: "refuse"}, {Kind: lifecycle.RulePII}}
	}, nil)
	_, result, err := ask(t, b, m, Chat, `{"messages":[{"role":"user"}]}`)
	require.NoError(t, err)
	require.Empty(t, result.Guardrails, "a tool's call needs no text")
	require.Equal(t, "tool_calls", result.Finish)
}

func TestEveryChoiceHasRulesOfItsOwn(t *testing.T) {
	t.Parallel()
	part := func(index, content string) string {
		return `data: {"choices":[{"index":` + index + `,"delta":{"content":"` + content + `"},"finish_reason":null}]}` + "\n\n"
	}
	m := newModelServer(t, streaming(part("0", "a@b"), part("1", "c@d"), part("0", ".co x"), part("1", ".eu y"), part("0", "z"),
		`data: {"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}`+"\n\n", `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n", ending))
	c, result, err := ask(t, ready(t, func(r *lifecycle.Release) { r.PostProcess = []lifecycle.Rule{{Kind: lifecycle.RulePII}} }, nil), m, Chat, asking)
	require.NoError(t, err)
	require.NotContains(t, c.body.String(), "@")
	require.Equal(t, 2, strings.Count(c.body.String(), "[email]"))
	require.Equal(t, "[email] xz", result.Output)
	require.Equal(t, []string{"pii[0]:email"}, result.Guardrails)
}

// anyRules draws a chain of rules that let the text go on.
func anyRules(t *rapid.T) []lifecycle.Rule {
	return rapid.SliceOfN(rapid.SampledFrom([]lifecycle.Rule{
		{Kind: lifecycle.RuleTrim}, {Kind: lifecycle.RuleMaxLength, Value: "40"},
		{Kind: lifecycle.RulePII}, {Kind: lifecycle.RulePII, Value: "phone,card"}, {Kind: lifecycle.RulePII, Action: "count"},
		{Kind: lifecycle.RuleRefusal, Value: "no can\nan ai"}, {Kind: lifecycle.RuleJSON}, {Kind: lifecycle.RuleJSON, Action: "mark"},
		{Kind: lifecycle.RuleDenyPattern, Value: `\d{4,6}`},
	}), 1, 3).Draw(t, "rules")
}

// However a text is cut into pieces, rules find, change and count the same.
func TestGuardrailsSayTheSameHoweverTheTextIsCut(t *testing.T) {
	t.Parallel()
	words := []string{
		"a@b.co", "x.y@z-1.org", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "10.0.0.1", "fe80::1", "+49 30 1234567",
		"(030) 12 34 56", "no  can", "An AI", "é", " ", "\n", ".", "-", "12", "DE", "@", ":", "+", `{"a":1}`, "word",
	}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 0, 20).Draw(t, "words"), "")
		c := rulesOf(t, anyRules(t)...)
		want, whole := c.whole(text)
		p := c.start()
		got := inPieces(t, p, text)
		require.Equal(t, want, got)
		slices.Sort(whole.hits)
		slices.Sort(p.hits)
		require.Equal(t, whole.hits, p.hits)
		require.Equal(t, []any{whole.stopped, whole.denied, whole.marked}, []any{p.stopped, p.denied, p.marked})
	})
}

func FuzzGuardrails(f *testing.F) {
	f.Add("write to a@b.co, 4111 1111 1111 1111 or DE89 3704 0044 0532 0130 00", 3)
	f.Add("(+49 30) 1234567 fe80::1 10.0.0.1:80 ....@..", 1)
	c := rulesOf(f, lifecycle.Rule{Kind: lifecycle.RulePII}, lifecycle.Rule{Kind: lifecycle.RuleRefusal, Value: "an ai"})
	f.Fuzz(func(t *testing.T, text string, cut int) {
		text = strings.ToValidUTF8(text, "?")
		want, _ := c.whole(text)
		p, got := c.start(), ""
		for rest := text; rest != ""; {
			n := min(max(cut%17, 1), len(rest))
			for n < len(rest) && rest[n]&0xC0 == 0x80 {
				n++
			}
			got, rest = got+p.feed(rest[:n], false), rest[n:]
			require.LessOrEqual(t, p.stages[0].(*piiStage).scan.Held(), 330+17+4)
		}
		require.Equal(t, want, got+p.feed("", true))
	})
}
