package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

type health struct {
	Status string `json:"status"`
}

func (s *Server) systemRoutes(api huma.API) {
	huma.Register(api, operation(http.MethodGet, "/healthz", "healthz", "Is the process alive?"), s.healthz)
	huma.Register(api, operation(http.MethodGet, "/readyz", "readyz", "Does the node serve? Not while it starts or stops"), s.readyz)
	huma.Register(api, operation(http.MethodGet, "/v1/node", "get-node", "Who this node is"), s.getNode)
	huma.Register(api, operation(http.MethodGet, "/v1/gates", "list-gates", "The gates that are closing, with who is inside"), s.listGates)
}

func (s *Server) healthz(context.Context, *struct{}) (*reply[health], error) {
	return &reply[health]{health{"ok"}}, nil
}

func (s *Server) readyz(ctx context.Context, _ *struct{}) (*reply[health], error) {
	if err := s.node.Ready(); err != nil {
		return nil, s.fail(ctx, Errorf(KindUnavailable, "%w", err))
	}
	return &reply[health]{health{"ready"}}, nil
}

func (s *Server) getNode(context.Context, *struct{}) (*reply[NodeInfo], error) {
	info := s.node.Info()
	info.Peers = list(info.Peers)
	return &reply[NodeInfo]{info}, nil
}

func (s *Server) listGates(context.Context, *struct{}) (*reply[[]ClosingGate], error) {
	gates := list(s.node.Gates())
	for i := range gates {
		gates[i].Holders = list(gates[i].Holders)
	}
	return &reply[[]ClosingGate]{gates}, nil
}

// list makes an absent list an empty one: JSON's null is no list to a client.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
