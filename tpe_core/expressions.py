"""Conditions on columns as people type them: ``abs(slope) > 1 and not pruned``. No torch, and nothing is executed.

An expression is Python's syntax for numbers, names of columns, comparisons, ``and``, ``or``, ``not``, arithmetic and
the functions of `FUNCTIONS`; everything else is refused by name.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Column = NDArray[Any]
else:
    np = Deferred("numpy")

__all__ = ["FUNCTIONS", "Condition", "parse_condition"]

LONGEST = 500  # characters
FUNCTIONS = ("abs", "exp", "log", "sqrt")
ARITHMETIC: Mapping[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide", ast.Pow: "power"
}  # fmt: skip
COMPARISONS: Mapping[type[ast.cmpop], str] = {
    ast.Lt: "less", ast.LtE: "less_equal", ast.Gt: "greater", ast.GtE: "greater_equal", ast.Eq: "equal",
    ast.NotEq: "not_equal",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was understood; `names` are the columns that it reads."""

    text: str
    names: frozenset[str]
    _body: ast.expr

    def holds(self, columns: Mapping[str, Column]) -> NDArray[np.bool_]:
        """[n] whether it holds of each row; comparisons with NaN do not.

        Args:
            columns: [n] values by name, numbers or booleans.
        """
        with np.errstate(all="ignore"):
            result = np.asarray(_value(self._body, columns))
        shape = np.shape(next(iter(columns.values())))
        return np.broadcast_to(result.astype(bool), shape).copy()


def parse_condition(text: str, numbers: Collection[str], flags: Collection[str] = ()) -> Condition:
    """What a text says of columns. Raises `TpeError` in one sentence that names what is not understood.

    Args:
        text: The condition.
        numbers: Names of the columns of numbers.
        flags: Names of the columns that are yes or no.

    Example:
        >>> columns = {"x": np.array([0, 2]), "y": np.array([True, False])}
        >>> parse_condition("x > 1 and not y", ["x"], ["y"]).holds(columns)
        array([False,  True])
    """
    if len(text) > LONGEST:
        raise TpeError(f"a condition has at most {LONGEST} characters, this one {len(text):,}.")
    checked = _Checker(numbers, flags)
    try:
        body = ast.parse(text.strip(), mode="eval").body
        checked.condition(body)
    except (SyntaxError, ValueError, OverflowError) as error:
        place = ""
        if isinstance(error, SyntaxError) and error.offset is not None and 0 < error.offset <= len(text.strip()):
            place = f" from its character {error.offset} on"
        single = re.search(r"(?<![=<>!])=(?!=)", text) is not None
        hint = "== is equal to" if single else f"try abs({next(iter(numbers), 'x')}) > 1"
        raise TpeError(f"this is not understood{place}: {hint}.") from None
    except (RecursionError, MemoryError):
        raise TpeError("the condition is nested too deeply.") from None
    return Condition(text, frozenset(checked.used), body)


class _Checker:
    """Looks whether an expression is made of what there is; `used` are the columns that it reads."""

    def __init__(self, numbers: Collection[str], flags: Collection[str]) -> None:
        self._numbers, self._flags = numbers, flags
        self.used: set[str] = set()

    def condition(self, node: ast.expr) -> None:
        """Raise `TpeError` where an expression is no condition."""
        match node:
            case ast.BoolOp(values=parts):
                for part in parts:
                    self.condition(part)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.condition(operand)
            case ast.Compare(left=left, ops=operators, comparators=others) if all(
                type(operator) in COMPARISONS for operator in operators
            ):
                for each in (left, *others):
                    self.number(each)
            case ast.Name(id=name) if name in self._flags:
                self.used.add(name)
            case _:
                self.number(node)
                raise TpeError(f"{_short(node)} is a number and no condition: compare it, as in {_short(node)} > 1.")

    def number(self, node: ast.expr) -> None:
        """Raise `TpeError` where an expression is no number."""
        match node:
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                self.number(operand)
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in ARITHMETIC:
                self.number(left)
                self.number(right)
            case ast.Call(func=ast.Name(id=function), args=[argument], keywords=[]) if function in FUNCTIONS:
                self.number(argument)
            case ast.Call(func=ast.Name(id=function)):
                raise TpeError(f"there is no {function}(...) of one value here: functions are {', '.join(FUNCTIONS)}.")
            case ast.Name(id=name) if name in self._numbers:
                self.used.add(name)
            case ast.Name(id=name) if name in self._flags:
                raise TpeError(f"{name} is yes or no and no number: write {name}, or not {name}.")
            case ast.Name(id=name):
                raise TpeError(_unknown(name, [*self._numbers, *self._flags]))
            case ast.Constant(value=int() | float() as constant) if not isinstance(constant, bool):
                float(constant)
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                raise TpeError(f"{_short(node)} is a condition and no number: combine conditions with and, or, not.")
            case _:
                raise TpeError(f"{_short(node)} is not understood: compare columns with numbers.")


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _unknown(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    meant = f" (is {near[0]} meant?)" if near else ""
    return f"no column is called {name}{meant}: there are {', '.join(names)}."


def _value(node: ast.expr, columns: Mapping[str, Column]) -> Any:
    """The value of an expression that was checked."""
    match node:
        case ast.BoolOp(op=operator, values=values):
            combine: Callable[..., Any] = np.logical_and if isinstance(operator, ast.And) else np.logical_or
            result = _value(values[0], columns)
            for value in values[1:]:
                result = combine(result, _value(value, columns))
            return result
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return np.logical_not(_value(operand, columns))
        case ast.UnaryOp(op=operator, operand=operand):
            value = _value(operand, columns)
            return -value if isinstance(operator, ast.USub) else value
        case ast.BinOp(left=left, op=operator, right=right):
            return getattr(np, ARITHMETIC[type(operator)])(_value(left, columns), _value(right, columns))
        case ast.Compare(left=left, ops=operators, comparators=others):
            values = [_value(each, columns) for each in (left, *others)]
            holds = np.bool_(True)
            for comparison, first, second in zip(operators, values, values[1:], strict=False):
                holds = np.logical_and(holds, getattr(np, COMPARISONS[type(comparison)])(first, second))
            return holds
        case ast.Call(func=ast.Name(id=function), args=[argument]):
            return getattr(np, function)(_value(argument, columns))
        case ast.Name(id=name):
            return columns[name]
        case ast.Constant(value=int() | float() as constant):
            return float(constant)
        case _:
            raise AssertionError(ast.dump(node))
