"""Lists of whole executions: an answer stays small however much is kept, and nothing is left out."""

from sandboxd_api.v1 import execution_service_pb2 as execution_service

from tests.support.serving import Serving

_MIB = 1024 * 1024


def test_pages_of_whole_executions_are_short_and_complete(server: Serving) -> None:
    # A page used to hold up to 500 results of any size: 40 of 10 MB took 2 GB of the server and failed.
    sandbox = server.create(result_bytes=16 * _MIB)
    for number in range(4):
        assert server.run(sandbox, f"__result__ = 'x' * {6 * _MIB + number}").state == "SUCCEEDED"
    sizes: list[list[int]] = []
    token = ""
    while token or not sizes:
        request = execution_service.ListExecutionsRequest(
            sandbox_id=sandbox, view=execution_service.EXECUTION_VIEW_FULL, page_token=token
        )
        page = server.executions.ListExecutions(request, metadata=server.metadata, timeout=60)
        sizes.append([len(execution.result.value.text) - 6 * _MIB for execution in page.executions])
        token = page.next_page_token
    assert sizes == [[3, 2], [1, 0]]
    server.delete(sandbox)
