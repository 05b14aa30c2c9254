package rollout

// begun is what is remembered of a conversation.
type begun struct {
	side       Side
	propensity float64 // 0: it never tossed
}

// memory remembers the conversations that asked last: at least limit, at most twice as many. When the young half
// is full it becomes the old half and the former old half is forgotten; asking again makes a conversation young.
type memory struct {
	limit      int
	young, old map[Hash]begun
}

func (m *memory) get(h Hash) (begun, bool) {
	if b, ok := m.young[h]; ok {
		return b, true
	}
	b, ok := m.old[h]
	return b, ok
}

func (m *memory) put(h Hash, b begun) {
	if _, ok := m.young[h]; !ok && len(m.young) >= m.limit {
		m.old, m.young = m.young, nil
	}
	if m.young == nil {
		m.young = make(map[Hash]begun)
	}
	m.young[h] = b
}
