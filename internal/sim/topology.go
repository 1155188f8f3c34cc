package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// Topology says how far hosts are from each other. Hosts are numbered from 0, in the order in which they are placed.
type Topology interface {
	// Place puts down one more host, at random.
	Place(r *rand.Rand)
	// Delay is how long a message takes from host a to host b, one way. It is the same in both directions, and zero from a host
	// to itself.
	Delay(a, b int) time.Duration
}

// Sphere is a topology of points spread evenly over a sphere; delay is proportional to the great circle between them. It has
// no border, so every host sees the same world.
type Sphere struct {
	farthest time.Duration
	points   [][3]float32 // of length 1
}

// NewSphere returns an empty sphere on which antipodes are farthest apart.
func NewSphere(farthest time.Duration) *Sphere { return &Sphere{farthest: farthest} }

// Place puts down a host anywhere on the sphere, all places being equally likely (by Archimedes, height and longitude are even).
func (s *Sphere) Place(r *rand.Rand) {
	z, longitude := 2*r.Float64()-1, 2*math.Pi*r.Float64()
	sin, cos := math.Sincos(longitude)
	across := math.Sqrt(1 - z*z)
	s.points = append(s.points, [3]float32{float32(across * cos), float32(across * sin), float32(z)})
}

// Delay is the share of half a great circle that lies between a and b, of what antipodes are apart.
func (s *Sphere) Delay(a, b int) time.Duration {
	if a == b {
		return 0
	}
	p, q := &s.points[a], &s.points[b]
	dx, dy, dz := float64(p[0])-float64(q[0]), float64(p[1])-float64(q[1]), float64(p[2])-float64(q[2])
	chord := math.Sqrt(dx*dx + dy*dy + dz*dz) // not the dot product, which cannot tell near points apart
	return time.Duration(2 * math.Asin(min(chord/2, 1)) / math.Pi * float64(s.farthest))
}

// Plane is a topology of points spread evenly over a square; delay is proportional to the straight line between them.
type Plane struct {
	side   time.Duration
	points [][2]float32 // in 0..1
}

// NewPlane returns an empty square whose sides are side long.
func NewPlane(side time.Duration) *Plane { return &Plane{side: side} }

// Place puts down a host anywhere in the square, all places being equally likely.
func (p *Plane) Place(r *rand.Rand) {
	p.points = append(p.points, [2]float32{r.Float32(), r.Float32()})
}

// Delay is the length of the line from a to b.
func (p *Plane) Delay(a, b int) time.Duration {
	dx, dy := float64(p.points[a][0])-float64(p.points[b][0]), float64(p.points[a][1])-float64(p.points[b][1])
	return time.Duration(math.Sqrt(dx*dx+dy*dy) * float64(p.side))
}
