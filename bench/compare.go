package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Column is what one server showed.
type Column struct {
	Name    string
	Results []Result
}

// Compare writes the columns side by side: rates, the server's processor time per request, and the ratio of each rate to that of the
// last column. Loads are those of the first column; what another lacks is left empty.
func Compare(w io.Writer, columns []Column) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	last := columns[len(columns)-1]
	fmt.Fprint(t, "load\t")
	for i, c := range columns {
		fmt.Fprintf(t, "%s\tp99\tcpu/req\t", c.Name)
		if i < len(columns)-1 {
			fmt.Fprintf(t, "/ %s\t", last.Name)
		}
	}
	fmt.Fprintln(t)
	for _, r := range columns[0].Results {
		fmt.Fprintf(t, "%s\t", r.Load)
		for i, c := range columns {
			compareOne(t, c.find(r.Load), last.find(r.Load), i < len(columns)-1)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func compareOne(w io.Writer, r, base *Result, ratio bool) {
	if r == nil {
		fmt.Fprint(w, "\t\t\t")
	} else {
		v, unit := r.Figure()
		fmt.Fprintf(w, "%.0f %s\t%s\t%s\t", v, unit, round(r.P99), r.CPU.Round(time.Microsecond))
	}
	switch {
	case !ratio:
	case r == nil || base == nil || base.PerSecond == 0:
		fmt.Fprint(w, "\t")
	default:
		fmt.Fprintf(w, "%.2f\t", r.PerSecond/base.PerSecond)
	}
}

func (c *Column) find(load string) *Result {
	for i := range c.Results {
		if c.Results[i].Load == load {
			return &c.Results[i]
		}
	}
	return nil
}
