"""Pages of a list, as clients ask for them in a query."""

from starlette.datastructures import QueryParams

from llama_stack_messages_provider.errors import InvalidRequestError

__all__ = ["page_asked"]


def page_asked(query: QueryParams) -> tuple[int, str | None, str | None]:
    """`limit`, `after_id` and `before_id`; whether the list takes them is its own to say.

    Raises:
        InvalidRequestError: `limit` is no integer.
    """
    try:
        limit = int(query.get("limit", "20"))
    except ValueError:
        raise InvalidRequestError("limit: Input should be a valid integer") from None
    return limit, query.get("after_id"), query.get("before_id")
