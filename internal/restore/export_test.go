package restore

// Read is read, for its fuzz target.
var Read = read
