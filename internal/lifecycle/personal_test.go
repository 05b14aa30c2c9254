package lifecycle_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestPersonalDataIsMaskedByItsForm(t *testing.T) {
	t.Parallel()
	m, err := lifecycle.NewMasker(lifecycle.PIIKinds(), []string{`(?i)ticket \d+`})
	require.NoError(t, err)
	for text, want := range map[string]string{
		"":                                     "",
		"nothing to see at 12:30":              "nothing to see at 12:30",
		"jo.doe+x@mail.example.com!":           "[email]!",
		"card 4111-1111-1111-1111.":            "card [card].",
		"no card 4111-1111-1111-1112":          "no card 4111-1111-1111-1112",
		"to DE89 3704 0044 0532 0130 00 today": "to [iban] today",
		"from 192.168.7.255":                   "from [ip]",
		"version 1.2.3":                        "version 1.2.3",
		"not 300.1.1.1":                        "not 300.1.1.1",
		"call +49 170 1234567":                 "call [phone]",
		"call 00491701234567, not 0001234567":  "call [phone], not 0001234567",
		"tel+49 170 1234567 and 1+10000000":    "tel[phone] and 1+10000000",
		"(030) 123 45 67 or 555-123-4567":      "[phone] or [phone]",
		"ip:10.0.0.1:80, 010.001.000.001.Also": "ip:[ip]:80, [ip].Also",
		"at 2001:db8::8a2e:370:7334":           "at [ip]",
		"version 1.2.3.4.5 of 12:30:45":        "version 1.2.3.4.5 of 12:30:45",
		"jo@my_host.example and a@1.2":         "[email] and a@1.2",
		"5 4111111111111111":                   "5 [card]",
		"DE89 3704 0044 0532 0130 00 1234":     "[iban] 1234",
		"de89370400440532013000":               "[iban]",
		"émile <jo@b.co>":                      "émile <[email]>",
		"see Ticket 42":                        "see [redacted]",
	} {
		require.Equal(t, want, m.Mask(text), text)
		require.Equal(t, want, m.Mask(m.Mask(text)), "masking again changes nothing: %s", text)
	}
	require.Equal(t, "jo@example.com", (*lifecycle.Masker)(nil).Mask("jo@example.com"))
	none, err := lifecycle.NewMasker(nil, nil)
	require.NoError(t, err)
	require.Equal(t, "jo@example.com", none.Mask("jo@example.com"))
	_, err = lifecycle.NewMasker([]string{"names"}, []string{"(", "x*"})
	for _, path := range []string{"redact.kinds[0]", "redact.patterns[0]", "redact.patterns[1]"} {
		require.ErrorContains(t, err, path)
	}
}

// What comes in pieces is masked as it is as a whole, whatever it is cut into, and little is held back.
func FuzzPersonalScan(f *testing.F) {
	f.Add("write to a@b.co, 4111 1111 1111 1111 or DE89 3704 0044 0532 0130 00", 3)
	f.Add("tel+49 30 1234567 0049301234567 fe80::1 ip:10.0.0.1:80 010.0.0.1.E ....@..", 1)
	m, err := lifecycle.NewMasker(lifecycle.PIIKinds(), nil)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		scan, got := lifecycle.FormsOf(lifecycle.PIIKinds()).Scan(true), ""
		n := min(max(cut, 1), 17)
		for rest := text; rest != ""; {
			piece := rest[:min(n, len(rest))]
			out, _ := scan.Feed(piece, false)
			got, rest = got+out, rest[len(piece):]
			require.LessOrEqual(t, scan.Held(), 320+n)
		}
		out, _ := scan.Feed("", true)
		require.Equal(t, m.Mask(text), got+out)
	})
}
