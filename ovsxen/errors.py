"""What can go wrong, sorted by who must act.

Every error carries its exit code (docs/architecture.md lists them) and one useful line as `str()`: what happened, to
what, and what to do now.
"""

from typing import Tuple

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_PERMITTED = 4
EXIT_NOT_INSTALLED = 5


class OvsxenError(Exception):
    """Base of every error that ovsxen raises on purpose.

    `problem` says what happened and to what; `remedy` says what to do now.
    """

    exit_code = EXIT_FAILED

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return "%s: %s" % (self.problem, self.remedy) if self.remedy else self.problem


class AdministratorError(OvsxenError):
    """The administrator of the host must act."""


class UsageError(AdministratorError):
    """The command line or the place that it names cannot be used as asked."""

    exit_code = EXIT_USAGE


class NotPermitted(AdministratorError):
    """The operating system refused for want of privilege."""

    exit_code = EXIT_NOT_PERMITTED


class NotInstalled(AdministratorError):
    """A program of Open vSwitch, or its schema, is not there."""

    exit_code = EXIT_NOT_INSTALLED


class Defect(OvsxenError):
    """A maintainer must act: ovsxen met what it did not expect."""

    @classmethod
    def of(cls, error: BaseException) -> "Defect":
        """An unexpected exception, with the place where it was raised."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = "%s line %d" % (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else "an unknown place"
        return cls("ovsxen met what it did not expect (%s: %s, at %s)" % (type(error).__name__, error, where),
                   "report this; what was asked for may be repeated")


class NoAnswer(OvsxenError):
    """Nobody need act yet: something did not answer within its deadline, and may when asked again."""


class Refused(OvsxenError):
    """A daemon answered, and its answer is an error or makes no sense. A maintainer may have to act."""


class CodedError(OvsxenError):
    """An error that XAPI's callers know by a code and parameters, verbatim; plugin.py answers with them."""

    def __init__(self, code: str, params: Tuple[str, ...], problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.code = code
        self.params = params


class XapiFailure(CodedError):
    """XAPI answered with an error. Who must act depends on the code."""


class SwitchRefused(CodedError):
    """The switch did not take, or not keep, what was to be done to it.

    The codes are what the plugins have always answered: VSWITCH_CONFIG_MOD_FAILURE [exit code, what],
    VSWITCH_EMER_RESET_FAILURE [exit code], VSWITCH_ADD_FLOW_FAILURE [exit code, bridge, flow]; the text comes after.
    """

    def __init__(self, code: str, params: Tuple[str, ...], cause: OvsxenError) -> None:
        super().__init__(code, params + (str(cause),), cause.problem, cause.remedy)
        self.exit_code = cause.exit_code
