package capture

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/refitml/refit/internal/lifecycle"
)

// BenchmarkInteraction is what capture costs an answer: encoding, writing and waiting for the write.
func BenchmarkInteraction(b *testing.B) {
	i := interaction(1)
	i.Release, i.Client, i.Conversation = lifecycle.DigestOf([]byte("r")), strings.Repeat("c", 32), strings.Repeat("d", 32)
	i.Usage, i.Latency.Total = lifecycle.Usage{Prompt: 100, Completion: 20}, 0.123
	said := i
	said.Input, said.Output = strings.Repeat("question ", 50), strings.Repeat("answer ", 50)
	for name, i := range map[string]lifecycle.Interaction{"metadata": i, "full": said} {
		b.Run(name, func(b *testing.B) {
			s, err := OpenSpool(SpoolConfig{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler), Disk: 4 << 30})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.Arrived("docs")
					s.Interaction(i)
				}
			})
			b.StopTimer()
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
