package backup_test

import "testing"

func s3Places(*testing.T) []place { return nil }
