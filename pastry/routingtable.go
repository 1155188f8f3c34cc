package pastry

// RoutingTable is the paper's R: at row r and column c a node whose nodeId shares exactly r digits with self's and has c as
// the next (Pastry §2.1). Of several that fit, Node keeps the one nearest by round-trip time.
//
// In a ring of N nodes about log N to base 2ᵇ rows are filled; a row of b = 4 is 544 bytes and is allocated when its first
// entry comes.
type RoutingTable struct {
	self NodeID
	b    int
	rows [][]NodeHandle // by row, as far as there are entries; nil or 2ᵇ entries, of which the zero handle is an empty one
}

// NewRoutingTable returns the empty table of self with digits of b bits.
func NewRoutingTable(self NodeID, b int) RoutingTable { return RoutingTable{self: self, b: b} }

// Place returns the row and column where id belongs. id is not self's.
func (t *RoutingTable) Place(id NodeID) (row, col int) {
	row = t.self.SharedPrefixLen(id, t.b)
	return row, id.Digit(row, t.b)
}

// Rows is one more than the number of the last row that was ever filled.
func (t *RoutingTable) Rows() int { return len(t.rows) }

// Row returns the 2ᵇ entries of a row, empty ones as zero handles, or nil. It is valid until the next Step.
func (t *RoutingTable) Row(row int) []NodeHandle {
	if row < 0 || row >= len(t.rows) {
		return nil
	}
	return t.rows[row]
}

// Get returns the entry at the place of id, whoever it is, or the zero handle.
func (t *RoutingTable) Get(id NodeID) NodeHandle {
	if id == t.self {
		return NodeHandle{}
	}
	row, col := t.Place(id)
	if row >= len(t.rows) || t.rows[row] == nil {
		return NodeHandle{}
	}
	return t.rows[row][col]
}

// Put makes h the entry at its place. h is not self.
func (t *RoutingTable) Put(h NodeHandle) {
	row, col := t.Place(h.ID)
	if row >= len(t.rows) {
		grown := make([][]NodeHandle, row+1)
		copy(grown, t.rows)
		t.rows = grown
	}
	if t.rows[row] == nil {
		t.rows[row] = make([]NodeHandle, 1<<t.b)
	}
	t.rows[row][col] = h
}

// Remove empties the place of id if id is there, and reports whether it was.
func (t *RoutingTable) Remove(id NodeID) bool {
	if id == (NodeID{}) || t.Get(id).ID != id {
		return false
	}
	row, col := t.Place(id)
	t.rows[row][col] = NodeHandle{}
	return true
}

// AppendRow appends the entries of a row.
func (t *RoutingTable) AppendRow(to []NodeHandle, row int) []NodeHandle {
	for _, h := range t.Row(row) {
		if !h.IsZero() {
			to = append(to, h)
		}
	}
	return to
}
