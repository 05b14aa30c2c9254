package steps

import "encoding/json"

// RawParameters are a job's own parameters: JSON that only the job itself understands.
type RawParameters = json.RawMessage
