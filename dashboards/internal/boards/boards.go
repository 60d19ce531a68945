package boards

// All are the dashboards, in the order in which one looks at them.
func All() []*Board {
	return []*Board{fleet(), oneTimeline(), managers(), gates(), receive(), backup(), restore(), peers(), process()}
}
