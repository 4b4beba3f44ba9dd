from signal import SIG_DFL as SIG_DFL
from signal import SIG_IGN as SIG_IGN
from signal import SIGHUP as SIGHUP
from signal import SIGINT as SIGINT
from signal import SIGTERM as SIGTERM
from signal import getsignal as getsignal
from signal import signal as signal
