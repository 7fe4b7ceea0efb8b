# SPDX-License-Identifier: Apache-2.0
"""The control plane: configuration, API and command line. The only layer that parses text."""
