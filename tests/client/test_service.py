"""The programs of the wish-list run as they are written there; only how the service is made differs."""

from collections.abc import AsyncIterator

import pytest
from sandboxd_client import (
    CheckpointPolicy,
    DatabaseGrant,
    InvalidArgument,
    SandboxNotFound,
    SandboxService,
    WriteGrant,
)

from tests.support.server_process import Server

_CONFIG = {"max_execution_time": 30, "max_memory_mb": 256, "enable_debugging": True}


@pytest.fixture
async def service(server: Server) -> AsyncIterator[SandboxService]:
    async with await SandboxService.connect(server.tcp, token=server.token) as found:
        yield found


@pytest.fixture
async def sandbox_id(service: SandboxService) -> AsyncIterator[str]:
    found = await service.create_agent_sandbox(user_id=1, config=_CONFIG)
    yield found
    await service.cleanup_sandbox(found)


async def test_quick_start_executes_code_over_the_database(service: SandboxService, sandbox_id: str) -> None:
    code = """
# Get data from database
users = await db_query('SELECT * FROM users LIMIT 10')
debug(f'Retrieved {len(users)} users', 'INFO')

# Process data
processed_users = []
for user in users:
    processed_user = {
        'id': user['id'],
        'name': user.get('name', 'Unknown'),
        'email': user.get('email', ''),
        'domain': user.get('email', '').split('@')[-1] if '@' in user.get('email', '') else 'unknown'
    }
    processed_users.append(processed_user)

# Set result
__result__ = {
    'total_users': len(users),
    'processed_users': processed_users
}
"""
    result = await service.execute_code(sandbox_id, code)
    assert result.status == "completed", result.error
    assert f"{result.debug_info}" == "[INFO] Retrieved 10 users"
    assert result.result["total_users"] == 10
    assert {len(user) for user in result.result["processed_users"]} == {4}


async def test_database_is_queried_and_described(service: SandboxService, sandbox_id: str) -> None:
    query_result = await service.query_database(
        sandbox_id,
        "SELECT COUNT(*) as user_count FROM users WHERE created_at > :date",
        {"date": "2024-01-01"},
    )
    assert len(query_result) == 1
    assert query_result[0]["user_count"] > 0
    schema = await service.get_database_schema(sandbox_id)
    assert {"users", "documents", "user_activities"} <= set(schema["tables"])
    columns = [column["name"] for column in schema["tables"]["users"]["columns"]]
    assert columns[:3] == ["id", "name", "email"]


async def test_data_analysis_agent(service: SandboxService, sandbox_id: str) -> None:
    analysis_code = """
# Get user activity data
activities = await db_query('''
    SELECT user_id, action, timestamp 
    FROM user_activities 
    WHERE timestamp > NOW() - INTERVAL '7 days'
    ORDER BY timestamp
''')

debug(f'Analyzing {len(activities)} activities', 'INFO')

# Analyze patterns
user_patterns = {}
for activity in activities:
    user_id = activity['user_id']
    action = activity['action']
    
    if user_id not in user_patterns:
        user_patterns[user_id] = {}
    
    if action not in user_patterns[user_id]:
        user_patterns[user_id][action] = 0
    
    user_patterns[user_id][action] += 1

# Find most active users
most_active = sorted(user_patterns.items(), 
                    key=lambda x: sum(x[1].values()), 
                    reverse=True)[:10]

__result__ = {
    'total_activities': len(activities),
    'unique_users': len(user_patterns),
    'most_active_users': most_active,
    'analysis_timestamp': datetime.utcnow().isoformat()
}
"""  # noqa: W291, W293 # as it is written there
    result = await service.execute_code(sandbox_id, analysis_code)
    assert result.status == "completed", result.error
    assert result.result["total_activities"] > 0
    assert len(result.result["most_active_users"]) == 10


async def test_knowledge_extraction_agent_writes_what_it_was_granted(service: SandboxService) -> None:
    grant = DatabaseGrant(
        database="sample",
        is_default=True,
        write_grants=[WriteGrant(table="documents", operation="update", columns=["processed"])],
    )
    sandbox_id = await service.create_agent_sandbox(user_id=1, config={"databases": [grant]})
    extraction_code = r"""
import re
from collections import Counter

documents = await db_query('''
    SELECT id, title, content 
    FROM documents 
    WHERE processed = false 
    LIMIT 20
''')

extracted_knowledge = []

for doc in documents:
    content = doc['content']
    emails = re.findall(r'\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Z|a-z]{2,}\b', content)
    words = re.findall(r'\b\w+\b', content.lower())
    word_freq = Counter(words)
    keywords = [word for word, freq in word_freq.most_common(10) if len(word) > 3]
    extracted_knowledge.append({
        'document_id': doc['id'], 'emails': emails, 'keywords': keywords,
        'extracted_at': datetime.utcnow().isoformat()
    })

    # Mark as processed
    await db_query(
        'UPDATE documents SET processed = true WHERE id = :id',
        {'id': doc['id']}
    )
    
    debug(f'Processed document {doc["id"]}', 'DEBUG')

__result__ = {
    'processed_documents': len(documents),
    'extracted_knowledge': extracted_knowledge
}
"""  # noqa: W291, W293 # as it is written there
    first = await service.execute_code(sandbox_id, extraction_code)
    assert first.status == "completed", first.error
    assert first.result["processed_documents"] > 0
    done = {item["document_id"] for item in first.result["extracted_knowledge"]}
    left = await service.query_database(sandbox_id, "SELECT id FROM documents WHERE processed = false")
    assert done.isdisjoint(row["id"] for row in left)
    await service.cleanup_sandbox(sandbox_id)


async def test_pipeline_debugging_agent(service: SandboxService, sandbox_id: str) -> None:
    code = """
debug('Starting pipeline debugging', 'INFO')
try:
    input_data = await db_query('SELECT * FROM pipeline_input LIMIT 5')
    debug(f'Input data: {len(input_data)} records', 'INFO')
    inspect_var('input_data', input_data)
    processed = [{'id': item['id'], 'has_content': bool(item['content'])} for item in input_data]
    inspect_var('processed', processed)
    __result__ = {'input_count': len(input_data), 'debug_summary': get_debug_info()}
except Exception as e:
    debug(f'Error in pipeline: {str(e)}', 'ERROR')
    __result__ = {'error': str(e), 'debug_summary': get_debug_info()}
"""
    result = await service.execute_code(sandbox_id, code)
    assert result.status == "completed", result.error
    assert result.result["input_count"] == 5
    assert [entry.message for entry in result.debug_info.log] == [
        "Starting pipeline debugging",
        "Input data: 5 records",
    ]
    assert [item.variable.name for item in result.debug_info.variables] == ["input_data", "processed"]


async def test_errors_are_handled_as_in_best_practices(service: SandboxService, sandbox_id: str) -> None:
    printed = []
    try:
        result = await service.execute_code(sandbox_id, "debug('before', 'INFO')\n{}['missing']")
        if result.status == "failed":
            printed.append(f"Execution failed: {result.error}")
            printed.append(f"Debug info: {result.debug_info}")
    except Exception as e:  # noqa: BLE001 # as it is written there
        printed.append(f"Service error: {e}")
    assert printed == ["Execution failed: KeyError: 'missing' (line 2)", "Debug info: [INFO] before"]


async def test_statistics_and_history_are_printed(service: SandboxService, sandbox_id: str) -> None:
    await service.execute_code(sandbox_id, "1")
    await service.execute_code(sandbox_id, "1 / 0")
    stats = await service.get_sandbox_statistics()
    text = f"{stats['active_sandboxes']} {stats['success_rate']:.2f}% {stats['average_execution_time']:.2f}s"
    assert text.endswith("s")
    history = await service.get_execution_history(sandbox_id)
    assert [execution["status"] for execution in history] == ["failed", "completed"]
    assert all(execution["execution_id"].startswith("exe_") for execution in history)


async def test_processor_template_is_changed_and_run(service: SandboxService, sandbox_id: str) -> None:
    template = await service.create_processor_template(sandbox_id, "data_processor")
    modified_code = template.replace(
        "# Add your transformation logic here", "return {'transformed': True, 'data': data}"
    )
    assert modified_code != template
    result = await service.execute_code(sandbox_id, modified_code)
    assert result.status == "completed", result.error


async def test_state_of_a_sandbox_is_reviewed(service: SandboxService, sandbox_id: str) -> None:
    await service.execute_code(sandbox_id, "answer = 42")
    state = await service.get_sandbox_state(sandbox_id)
    assert state["variables"]["answer"] == "42"
    assert state["status"] == "active"
    assert (await service.get_sandbox_status(sandbox_id))["user_id"] == "1"


async def test_helpers_for_agents(service: SandboxService, sandbox_id: str) -> None:
    assert (await service.quick_execute("6 * 7", user_id=1, config=_CONFIG)).result == 42
    assert (await service.analyze_data([{"a": 1}, {"a": 2}])).status == "completed"
    functions = await service.get_available_functions(sandbox_id)
    assert "debug" in [function["name"] for function in functions["functions"]]
    assert await service.get_code_examples(sandbox_id)


async def test_sandbox_is_gone_after_its_cleanup(service: SandboxService) -> None:
    sandbox_id = await service.create_agent_sandbox(user_id=1)
    assert await service.cleanup_sandbox(sandbox_id)
    with pytest.raises(SandboxNotFound):
        await service.execute_code(sandbox_id, "1")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_memory": 1}, "max_memory_mb"),
        ({"max_memory_mb": "much"}, "must be a number"),
        ({"max_execution_time": 10**6}, "execution_timeout"),
    ],
    ids=["unknown key", "not a number", "above the most"],
)
async def test_configuration_that_cannot_be_met_is_refused(
    service: SandboxService, config: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        await service.create_agent_sandbox(user_id=1, config=config)


async def test_every_key_of_the_configuration_is_taken(service: SandboxService) -> None:
    config = {
        "max_execution_time": 5,
        "max_memory_mb": 64,
        "max_cpu_percent": 50,
        "max_open_files": 50,
        "max_threads": 2,
        "max_output_bytes": 1000,
        "max_result_bytes": 1000,
        "max_log_bytes": 1000,
        "max_source_bytes": 1000,
        "max_workspace_mb": 1,
        "idle_timeout": 60,
        "enable_debugging": True,
        "language_policy": "unrestricted",
        "extra_allowed_modules": ["os"],
        "databases": ["sample"],
        "checkpoints": CheckpointPolicy(enabled=False),
    }
    sandbox_id = await service.create_agent_sandbox(user_id=1, config=config)
    assert (await service.execute_code(sandbox_id, "import os\n1")).status == "completed"
    await service.cleanup_sandbox(sandbox_id)
