package main

// Needs protoc, protoc-gen-go and protoc-gen-go-grpc.
//go:generate protoc -I ../../../proto --go_out=. --go-grpc_out=. --go_opt=module=example.com/tresor-client --go-grpc_opt=module=example.com/tresor-client --go_opt=Mdynarex/credentials/v1/common.proto=example.com/tresor-client/credentials --go_opt=Mdynarex/credentials/v1/resolver.proto=example.com/tresor-client/credentials --go-grpc_opt=Mdynarex/credentials/v1/common.proto=example.com/tresor-client/credentials --go-grpc_opt=Mdynarex/credentials/v1/resolver.proto=example.com/tresor-client/credentials dynarex/credentials/v1/common.proto dynarex/credentials/v1/resolver.proto
