import type * as grpc from '@grpc/grpc-js';
import type { EnumTypeDefinition, MessageTypeDefinition } from '@grpc/proto-loader';

import type { CheckpointChunk as _roost_internal_v1_CheckpointChunk, CheckpointChunk__Output as _roost_internal_v1_CheckpointChunk__Output } from './roost/internal/v1/CheckpointChunk.ts';
import type { CheckpointRequest as _roost_internal_v1_CheckpointRequest, CheckpointRequest__Output as _roost_internal_v1_CheckpointRequest__Output } from './roost/internal/v1/CheckpointRequest.ts';
import type { Frame as _roost_internal_v1_Frame, Frame__Output as _roost_internal_v1_Frame__Output } from './roost/internal/v1/Frame.ts';
import type { PeerClient as _roost_internal_v1_PeerClient, PeerDefinition as _roost_internal_v1_PeerDefinition } from './roost/internal/v1/Peer.ts';
import type { SendResponse as _roost_internal_v1_SendResponse, SendResponse__Output as _roost_internal_v1_SendResponse__Output } from './roost/internal/v1/SendResponse.ts';
import type { AbortMigrationRequest as _roost_v1_AbortMigrationRequest, AbortMigrationRequest__Output as _roost_v1_AbortMigrationRequest__Output } from './roost/v1/AbortMigrationRequest.ts';
import type { AbortMigrationResponse as _roost_v1_AbortMigrationResponse, AbortMigrationResponse__Output as _roost_v1_AbortMigrationResponse__Output } from './roost/v1/AbortMigrationResponse.ts';
import type { ApplyProfileRequest as _roost_v1_ApplyProfileRequest, ApplyProfileRequest__Output as _roost_v1_ApplyProfileRequest__Output } from './roost/v1/ApplyProfileRequest.ts';
import type { ApplyProfileResponse as _roost_v1_ApplyProfileResponse, ApplyProfileResponse__Output as _roost_v1_ApplyProfileResponse__Output } from './roost/v1/ApplyProfileResponse.ts';
import type { AuditRunsRequest as _roost_v1_AuditRunsRequest, AuditRunsRequest__Output as _roost_v1_AuditRunsRequest__Output } from './roost/v1/AuditRunsRequest.ts';
import type { AuditRunsResponse as _roost_v1_AuditRunsResponse, AuditRunsResponse__Output as _roost_v1_AuditRunsResponse__Output } from './roost/v1/AuditRunsResponse.ts';
import type { AuditServiceClient as _roost_v1_AuditServiceClient, AuditServiceDefinition as _roost_v1_AuditServiceDefinition } from './roost/v1/AuditService.ts';
import type { AuditedNode as _roost_v1_AuditedNode, AuditedNode__Output as _roost_v1_AuditedNode__Output } from './roost/v1/AuditedNode.ts';
import type { AuditedRun as _roost_v1_AuditedRun, AuditedRun__Output as _roost_v1_AuditedRun__Output } from './roost/v1/AuditedRun.ts';
import type { AuditedVm as _roost_v1_AuditedVm, AuditedVm__Output as _roost_v1_AuditedVm__Output } from './roost/v1/AuditedVm.ts';
import type { BackupClusterRequest as _roost_v1_BackupClusterRequest, BackupClusterRequest__Output as _roost_v1_BackupClusterRequest__Output } from './roost/v1/BackupClusterRequest.ts';
import type { BackupClusterResponse as _roost_v1_BackupClusterResponse, BackupClusterResponse__Output as _roost_v1_BackupClusterResponse__Output } from './roost/v1/BackupClusterResponse.ts';
import type { BenchClient as _roost_v1_BenchClient, BenchDefinition as _roost_v1_BenchDefinition } from './roost/v1/Bench.ts';
import type { BenchGetRequest as _roost_v1_BenchGetRequest, BenchGetRequest__Output as _roost_v1_BenchGetRequest__Output } from './roost/v1/BenchGetRequest.ts';
import type { BenchGetResponse as _roost_v1_BenchGetResponse, BenchGetResponse__Output as _roost_v1_BenchGetResponse__Output } from './roost/v1/BenchGetResponse.ts';
import type { BenchPutRequest as _roost_v1_BenchPutRequest, BenchPutRequest__Output as _roost_v1_BenchPutRequest__Output } from './roost/v1/BenchPutRequest.ts';
import type { BenchPutResponse as _roost_v1_BenchPutResponse, BenchPutResponse__Output as _roost_v1_BenchPutResponse__Output } from './roost/v1/BenchPutResponse.ts';
import type { Boot as _roost_v1_Boot, Boot__Output as _roost_v1_Boot__Output } from './roost/v1/Boot.ts';
import type { CancelTaskRequest as _roost_v1_CancelTaskRequest, CancelTaskRequest__Output as _roost_v1_CancelTaskRequest__Output } from './roost/v1/CancelTaskRequest.ts';
import type { CancelTaskResponse as _roost_v1_CancelTaskResponse, CancelTaskResponse__Output as _roost_v1_CancelTaskResponse__Output } from './roost/v1/CancelTaskResponse.ts';
import type { ClusterServiceClient as _roost_v1_ClusterServiceClient, ClusterServiceDefinition as _roost_v1_ClusterServiceDefinition } from './roost/v1/ClusterService.ts';
import type { ConfirmJoinRequest as _roost_v1_ConfirmJoinRequest, ConfirmJoinRequest__Output as _roost_v1_ConfirmJoinRequest__Output } from './roost/v1/ConfirmJoinRequest.ts';
import type { ConfirmJoinResponse as _roost_v1_ConfirmJoinResponse, ConfirmJoinResponse__Output as _roost_v1_ConfirmJoinResponse__Output } from './roost/v1/ConfirmJoinResponse.ts';
import type { Cpu as _roost_v1_Cpu, Cpu__Output as _roost_v1_Cpu__Output } from './roost/v1/Cpu.ts';
import type { CpuPinning as _roost_v1_CpuPinning, CpuPinning__Output as _roost_v1_CpuPinning__Output } from './roost/v1/CpuPinning.ts';
import type { CpuTopology as _roost_v1_CpuTopology, CpuTopology__Output as _roost_v1_CpuTopology__Output } from './roost/v1/CpuTopology.ts';
import type { CreatePolicyRequest as _roost_v1_CreatePolicyRequest, CreatePolicyRequest__Output as _roost_v1_CreatePolicyRequest__Output } from './roost/v1/CreatePolicyRequest.ts';
import type { CreatePolicyResponse as _roost_v1_CreatePolicyResponse, CreatePolicyResponse__Output as _roost_v1_CreatePolicyResponse__Output } from './roost/v1/CreatePolicyResponse.ts';
import type { CreatePoolRequest as _roost_v1_CreatePoolRequest, CreatePoolRequest__Output as _roost_v1_CreatePoolRequest__Output } from './roost/v1/CreatePoolRequest.ts';
import type { CreatePoolResponse as _roost_v1_CreatePoolResponse, CreatePoolResponse__Output as _roost_v1_CreatePoolResponse__Output } from './roost/v1/CreatePoolResponse.ts';
import type { CreateTokenRequest as _roost_v1_CreateTokenRequest, CreateTokenRequest__Output as _roost_v1_CreateTokenRequest__Output } from './roost/v1/CreateTokenRequest.ts';
import type { CreateTokenResponse as _roost_v1_CreateTokenResponse, CreateTokenResponse__Output as _roost_v1_CreateTokenResponse__Output } from './roost/v1/CreateTokenResponse.ts';
import type { CreateVmRequest as _roost_v1_CreateVmRequest, CreateVmRequest__Output as _roost_v1_CreateVmRequest__Output } from './roost/v1/CreateVmRequest.ts';
import type { CreateVmResponse as _roost_v1_CreateVmResponse, CreateVmResponse__Output as _roost_v1_CreateVmResponse__Output } from './roost/v1/CreateVmResponse.ts';
import type { DeletePolicyRequest as _roost_v1_DeletePolicyRequest, DeletePolicyRequest__Output as _roost_v1_DeletePolicyRequest__Output } from './roost/v1/DeletePolicyRequest.ts';
import type { DeletePolicyResponse as _roost_v1_DeletePolicyResponse, DeletePolicyResponse__Output as _roost_v1_DeletePolicyResponse__Output } from './roost/v1/DeletePolicyResponse.ts';
import type { DeletePoolRequest as _roost_v1_DeletePoolRequest, DeletePoolRequest__Output as _roost_v1_DeletePoolRequest__Output } from './roost/v1/DeletePoolRequest.ts';
import type { DeletePoolResponse as _roost_v1_DeletePoolResponse, DeletePoolResponse__Output as _roost_v1_DeletePoolResponse__Output } from './roost/v1/DeletePoolResponse.ts';
import type { DeleteVmRequest as _roost_v1_DeleteVmRequest, DeleteVmRequest__Output as _roost_v1_DeleteVmRequest__Output } from './roost/v1/DeleteVmRequest.ts';
import type { DeleteVmResponse as _roost_v1_DeleteVmResponse, DeleteVmResponse__Output as _roost_v1_DeleteVmResponse__Output } from './roost/v1/DeleteVmResponse.ts';
import type { DiagnoseRequest as _roost_v1_DiagnoseRequest, DiagnoseRequest__Output as _roost_v1_DiagnoseRequest__Output } from './roost/v1/DiagnoseRequest.ts';
import type { DiagnoseResponse as _roost_v1_DiagnoseResponse, DiagnoseResponse__Output as _roost_v1_DiagnoseResponse__Output } from './roost/v1/DiagnoseResponse.ts';
import type { DisableNodeRequest as _roost_v1_DisableNodeRequest, DisableNodeRequest__Output as _roost_v1_DisableNodeRequest__Output } from './roost/v1/DisableNodeRequest.ts';
import type { DisableNodeResponse as _roost_v1_DisableNodeResponse, DisableNodeResponse__Output as _roost_v1_DisableNodeResponse__Output } from './roost/v1/DisableNodeResponse.ts';
import type { DisablePolicyRequest as _roost_v1_DisablePolicyRequest, DisablePolicyRequest__Output as _roost_v1_DisablePolicyRequest__Output } from './roost/v1/DisablePolicyRequest.ts';
import type { DisablePolicyResponse as _roost_v1_DisablePolicyResponse, DisablePolicyResponse__Output as _roost_v1_DisablePolicyResponse__Output } from './roost/v1/DisablePolicyResponse.ts';
import type { Disk as _roost_v1_Disk, Disk__Output as _roost_v1_Disk__Output } from './roost/v1/Disk.ts';
import type { DoctorServiceClient as _roost_v1_DoctorServiceClient, DoctorServiceDefinition as _roost_v1_DoctorServiceDefinition } from './roost/v1/DoctorService.ts';
import type { Drain as _roost_v1_Drain, Drain__Output as _roost_v1_Drain__Output } from './roost/v1/Drain.ts';
import type { DrainBlock as _roost_v1_DrainBlock, DrainBlock__Output as _roost_v1_DrainBlock__Output } from './roost/v1/DrainBlock.ts';
import type { DrainNodeRequest as _roost_v1_DrainNodeRequest, DrainNodeRequest__Output as _roost_v1_DrainNodeRequest__Output } from './roost/v1/DrainNodeRequest.ts';
import type { DrainNodeResponse as _roost_v1_DrainNodeResponse, DrainNodeResponse__Output as _roost_v1_DrainNodeResponse__Output } from './roost/v1/DrainNodeResponse.ts';
import type { DrainStep as _roost_v1_DrainStep, DrainStep__Output as _roost_v1_DrainStep__Output } from './roost/v1/DrainStep.ts';
import type { EditNodeRequest as _roost_v1_EditNodeRequest, EditNodeRequest__Output as _roost_v1_EditNodeRequest__Output } from './roost/v1/EditNodeRequest.ts';
import type { EditNodeResponse as _roost_v1_EditNodeResponse, EditNodeResponse__Output as _roost_v1_EditNodeResponse__Output } from './roost/v1/EditNodeResponse.ts';
import type { EnableNodeRequest as _roost_v1_EnableNodeRequest, EnableNodeRequest__Output as _roost_v1_EnableNodeRequest__Output } from './roost/v1/EnableNodeRequest.ts';
import type { EnableNodeResponse as _roost_v1_EnableNodeResponse, EnableNodeResponse__Output as _roost_v1_EnableNodeResponse__Output } from './roost/v1/EnableNodeResponse.ts';
import type { EnablePolicyRequest as _roost_v1_EnablePolicyRequest, EnablePolicyRequest__Output as _roost_v1_EnablePolicyRequest__Output } from './roost/v1/EnablePolicyRequest.ts';
import type { EnablePolicyResponse as _roost_v1_EnablePolicyResponse, EnablePolicyResponse__Output as _roost_v1_EnablePolicyResponse__Output } from './roost/v1/EnablePolicyResponse.ts';
import type { ErrorDetail as _roost_v1_ErrorDetail, ErrorDetail__Output as _roost_v1_ErrorDetail__Output } from './roost/v1/ErrorDetail.ts';
import type { Event as _roost_v1_Event, Event__Output as _roost_v1_Event__Output } from './roost/v1/Event.ts';
import type { ExplainLimitsRequest as _roost_v1_ExplainLimitsRequest, ExplainLimitsRequest__Output as _roost_v1_ExplainLimitsRequest__Output } from './roost/v1/ExplainLimitsRequest.ts';
import type { ExplainLimitsResponse as _roost_v1_ExplainLimitsResponse, ExplainLimitsResponse__Output as _roost_v1_ExplainLimitsResponse__Output } from './roost/v1/ExplainLimitsResponse.ts';
import type { ExplainVmRequest as _roost_v1_ExplainVmRequest, ExplainVmRequest__Output as _roost_v1_ExplainVmRequest__Output } from './roost/v1/ExplainVmRequest.ts';
import type { ExplainVmResponse as _roost_v1_ExplainVmResponse, ExplainVmResponse__Output as _roost_v1_ExplainVmResponse__Output } from './roost/v1/ExplainVmResponse.ts';
import type { ExportPlanFileRequest as _roost_v1_ExportPlanFileRequest, ExportPlanFileRequest__Output as _roost_v1_ExportPlanFileRequest__Output } from './roost/v1/ExportPlanFileRequest.ts';
import type { ExportPlanFileResponse as _roost_v1_ExportPlanFileResponse, ExportPlanFileResponse__Output as _roost_v1_ExportPlanFileResponse__Output } from './roost/v1/ExportPlanFileResponse.ts';
import type { Failover as _roost_v1_Failover, Failover__Output as _roost_v1_Failover__Output } from './roost/v1/Failover.ts';
import type { FenceAttempt as _roost_v1_FenceAttempt, FenceAttempt__Output as _roost_v1_FenceAttempt__Output } from './roost/v1/FenceAttempt.ts';
import type { FenceDevice as _roost_v1_FenceDevice, FenceDevice__Output as _roost_v1_FenceDevice__Output } from './roost/v1/FenceDevice.ts';
import type { FenceNodeRequest as _roost_v1_FenceNodeRequest, FenceNodeRequest__Output as _roost_v1_FenceNodeRequest__Output } from './roost/v1/FenceNodeRequest.ts';
import type { FenceNodeResponse as _roost_v1_FenceNodeResponse, FenceNodeResponse__Output as _roost_v1_FenceNodeResponse__Output } from './roost/v1/FenceNodeResponse.ts';
import type { FenceStep as _roost_v1_FenceStep, FenceStep__Output as _roost_v1_FenceStep__Output } from './roost/v1/FenceStep.ts';
import type { FieldViolation as _roost_v1_FieldViolation, FieldViolation__Output as _roost_v1_FieldViolation__Output } from './roost/v1/FieldViolation.ts';
import type { Finding as _roost_v1_Finding, Finding__Output as _roost_v1_Finding__Output } from './roost/v1/Finding.ts';
import type { ForecastHaRequest as _roost_v1_ForecastHaRequest, ForecastHaRequest__Output as _roost_v1_ForecastHaRequest__Output } from './roost/v1/ForecastHaRequest.ts';
import type { ForecastHaResponse as _roost_v1_ForecastHaResponse, ForecastHaResponse__Output as _roost_v1_ForecastHaResponse__Output } from './roost/v1/ForecastHaResponse.ts';
import type { FoundDomain as _roost_v1_FoundDomain, FoundDomain__Output as _roost_v1_FoundDomain__Output } from './roost/v1/FoundDomain.ts';
import type { FoundRegistration as _roost_v1_FoundRegistration, FoundRegistration__Output as _roost_v1_FoundRegistration__Output } from './roost/v1/FoundRegistration.ts';
import type { FoundVolume as _roost_v1_FoundVolume, FoundVolume__Output as _roost_v1_FoundVolume__Output } from './roost/v1/FoundVolume.ts';
import type { GetClusterRequest as _roost_v1_GetClusterRequest, GetClusterRequest__Output as _roost_v1_GetClusterRequest__Output } from './roost/v1/GetClusterRequest.ts';
import type { GetClusterResponse as _roost_v1_GetClusterResponse, GetClusterResponse__Output as _roost_v1_GetClusterResponse__Output } from './roost/v1/GetClusterResponse.ts';
import type { GetHaRequest as _roost_v1_GetHaRequest, GetHaRequest__Output as _roost_v1_GetHaRequest__Output } from './roost/v1/GetHaRequest.ts';
import type { GetHaResponse as _roost_v1_GetHaResponse, GetHaResponse__Output as _roost_v1_GetHaResponse__Output } from './roost/v1/GetHaResponse.ts';
import type { GetNodeRequest as _roost_v1_GetNodeRequest, GetNodeRequest__Output as _roost_v1_GetNodeRequest__Output } from './roost/v1/GetNodeRequest.ts';
import type { GetNodeResponse as _roost_v1_GetNodeResponse, GetNodeResponse__Output as _roost_v1_GetNodeResponse__Output } from './roost/v1/GetNodeResponse.ts';
import type { GetPolicyRequest as _roost_v1_GetPolicyRequest, GetPolicyRequest__Output as _roost_v1_GetPolicyRequest__Output } from './roost/v1/GetPolicyRequest.ts';
import type { GetPolicyResponse as _roost_v1_GetPolicyResponse, GetPolicyResponse__Output as _roost_v1_GetPolicyResponse__Output } from './roost/v1/GetPolicyResponse.ts';
import type { GetRunRecordsRequest as _roost_v1_GetRunRecordsRequest, GetRunRecordsRequest__Output as _roost_v1_GetRunRecordsRequest__Output } from './roost/v1/GetRunRecordsRequest.ts';
import type { GetRunRecordsResponse as _roost_v1_GetRunRecordsResponse, GetRunRecordsResponse__Output as _roost_v1_GetRunRecordsResponse__Output } from './roost/v1/GetRunRecordsResponse.ts';
import type { GetTaskRequest as _roost_v1_GetTaskRequest, GetTaskRequest__Output as _roost_v1_GetTaskRequest__Output } from './roost/v1/GetTaskRequest.ts';
import type { GetTaskResponse as _roost_v1_GetTaskResponse, GetTaskResponse__Output as _roost_v1_GetTaskResponse__Output } from './roost/v1/GetTaskResponse.ts';
import type { GetVmRequest as _roost_v1_GetVmRequest, GetVmRequest__Output as _roost_v1_GetVmRequest__Output } from './roost/v1/GetVmRequest.ts';
import type { GetVmResponse as _roost_v1_GetVmResponse, GetVmResponse__Output as _roost_v1_GetVmResponse__Output } from './roost/v1/GetVmResponse.ts';
import type { Ha as _roost_v1_Ha, Ha__Output as _roost_v1_Ha__Output } from './roost/v1/Ha.ts';
import type { HaFate as _roost_v1_HaFate, HaFate__Output as _roost_v1_HaFate__Output } from './roost/v1/HaFate.ts';
import type { HaForecast as _roost_v1_HaForecast, HaForecast__Output as _roost_v1_HaForecast__Output } from './roost/v1/HaForecast.ts';
import type { HaImpossible as _roost_v1_HaImpossible, HaImpossible__Output as _roost_v1_HaImpossible__Output } from './roost/v1/HaImpossible.ts';
import type { HaNode as _roost_v1_HaNode, HaNode__Output as _roost_v1_HaNode__Output } from './roost/v1/HaNode.ts';
import type { HaServiceClient as _roost_v1_HaServiceClient, HaServiceDefinition as _roost_v1_HaServiceDefinition } from './roost/v1/HaService.ts';
import type { HaVm as _roost_v1_HaVm, HaVm__Output as _roost_v1_HaVm__Output } from './roost/v1/HaVm.ts';
import type { HaWait as _roost_v1_HaWait, HaWait__Output as _roost_v1_HaWait__Output } from './roost/v1/HaWait.ts';
import type { HistoryEntry as _roost_v1_HistoryEntry, HistoryEntry__Output as _roost_v1_HistoryEntry__Output } from './roost/v1/HistoryEntry.ts';
import type { InspectNodeRequest as _roost_v1_InspectNodeRequest, InspectNodeRequest__Output as _roost_v1_InspectNodeRequest__Output } from './roost/v1/InspectNodeRequest.ts';
import type { InspectNodeResponse as _roost_v1_InspectNodeResponse, InspectNodeResponse__Output as _roost_v1_InspectNodeResponse__Output } from './roost/v1/InspectNodeResponse.ts';
import type { InspectReplicaRequest as _roost_v1_InspectReplicaRequest, InspectReplicaRequest__Output as _roost_v1_InspectReplicaRequest__Output } from './roost/v1/InspectReplicaRequest.ts';
import type { InspectReplicaResponse as _roost_v1_InspectReplicaResponse, InspectReplicaResponse__Output as _roost_v1_InspectReplicaResponse__Output } from './roost/v1/InspectReplicaResponse.ts';
import type { IssueCertificateRequest as _roost_v1_IssueCertificateRequest, IssueCertificateRequest__Output as _roost_v1_IssueCertificateRequest__Output } from './roost/v1/IssueCertificateRequest.ts';
import type { IssueCertificateResponse as _roost_v1_IssueCertificateResponse, IssueCertificateResponse__Output as _roost_v1_IssueCertificateResponse__Output } from './roost/v1/IssueCertificateResponse.ts';
import type { Job as _roost_v1_Job, Job__Output as _roost_v1_Job__Output } from './roost/v1/Job.ts';
import type { JobProgress as _roost_v1_JobProgress, JobProgress__Output as _roost_v1_JobProgress__Output } from './roost/v1/JobProgress.ts';
import type { JoinRequest as _roost_v1_JoinRequest, JoinRequest__Output as _roost_v1_JoinRequest__Output } from './roost/v1/JoinRequest.ts';
import type { JoinResponse as _roost_v1_JoinResponse, JoinResponse__Output as _roost_v1_JoinResponse__Output } from './roost/v1/JoinResponse.ts';
import type { LimitExplanation as _roost_v1_LimitExplanation, LimitExplanation__Output as _roost_v1_LimitExplanation__Output } from './roost/v1/LimitExplanation.ts';
import type { LimitHolder as _roost_v1_LimitHolder, LimitHolder__Output as _roost_v1_LimitHolder__Output } from './roost/v1/LimitHolder.ts';
import type { LimitPool as _roost_v1_LimitPool, LimitPool__Output as _roost_v1_LimitPool__Output } from './roost/v1/LimitPool.ts';
import type { LimitServiceClient as _roost_v1_LimitServiceClient, LimitServiceDefinition as _roost_v1_LimitServiceDefinition } from './roost/v1/LimitService.ts';
import type { LintPoliciesRequest as _roost_v1_LintPoliciesRequest, LintPoliciesRequest__Output as _roost_v1_LintPoliciesRequest__Output } from './roost/v1/LintPoliciesRequest.ts';
import type { LintPoliciesResponse as _roost_v1_LintPoliciesResponse, LintPoliciesResponse__Output as _roost_v1_LintPoliciesResponse__Output } from './roost/v1/LintPoliciesResponse.ts';
import type { ListFailoversRequest as _roost_v1_ListFailoversRequest, ListFailoversRequest__Output as _roost_v1_ListFailoversRequest__Output } from './roost/v1/ListFailoversRequest.ts';
import type { ListFailoversResponse as _roost_v1_ListFailoversResponse, ListFailoversResponse__Output as _roost_v1_ListFailoversResponse__Output } from './roost/v1/ListFailoversResponse.ts';
import type { ListFencingRequest as _roost_v1_ListFencingRequest, ListFencingRequest__Output as _roost_v1_ListFencingRequest__Output } from './roost/v1/ListFencingRequest.ts';
import type { ListFencingResponse as _roost_v1_ListFencingResponse, ListFencingResponse__Output as _roost_v1_ListFencingResponse__Output } from './roost/v1/ListFencingResponse.ts';
import type { ListLimitsRequest as _roost_v1_ListLimitsRequest, ListLimitsRequest__Output as _roost_v1_ListLimitsRequest__Output } from './roost/v1/ListLimitsRequest.ts';
import type { ListLimitsResponse as _roost_v1_ListLimitsResponse, ListLimitsResponse__Output as _roost_v1_ListLimitsResponse__Output } from './roost/v1/ListLimitsResponse.ts';
import type { ListNodesRequest as _roost_v1_ListNodesRequest, ListNodesRequest__Output as _roost_v1_ListNodesRequest__Output } from './roost/v1/ListNodesRequest.ts';
import type { ListNodesResponse as _roost_v1_ListNodesResponse, ListNodesResponse__Output as _roost_v1_ListNodesResponse__Output } from './roost/v1/ListNodesResponse.ts';
import type { ListPoliciesRequest as _roost_v1_ListPoliciesRequest, ListPoliciesRequest__Output as _roost_v1_ListPoliciesRequest__Output } from './roost/v1/ListPoliciesRequest.ts';
import type { ListPoliciesResponse as _roost_v1_ListPoliciesResponse, ListPoliciesResponse__Output as _roost_v1_ListPoliciesResponse__Output } from './roost/v1/ListPoliciesResponse.ts';
import type { ListPoolsRequest as _roost_v1_ListPoolsRequest, ListPoolsRequest__Output as _roost_v1_ListPoolsRequest__Output } from './roost/v1/ListPoolsRequest.ts';
import type { ListPoolsResponse as _roost_v1_ListPoolsResponse, ListPoolsResponse__Output as _roost_v1_ListPoolsResponse__Output } from './roost/v1/ListPoolsResponse.ts';
import type { ListSettingsRequest as _roost_v1_ListSettingsRequest, ListSettingsRequest__Output as _roost_v1_ListSettingsRequest__Output } from './roost/v1/ListSettingsRequest.ts';
import type { ListSettingsResponse as _roost_v1_ListSettingsResponse, ListSettingsResponse__Output as _roost_v1_ListSettingsResponse__Output } from './roost/v1/ListSettingsResponse.ts';
import type { ListTasksRequest as _roost_v1_ListTasksRequest, ListTasksRequest__Output as _roost_v1_ListTasksRequest__Output } from './roost/v1/ListTasksRequest.ts';
import type { ListTasksResponse as _roost_v1_ListTasksResponse, ListTasksResponse__Output as _roost_v1_ListTasksResponse__Output } from './roost/v1/ListTasksResponse.ts';
import type { ListTokensRequest as _roost_v1_ListTokensRequest, ListTokensRequest__Output as _roost_v1_ListTokensRequest__Output } from './roost/v1/ListTokensRequest.ts';
import type { ListTokensResponse as _roost_v1_ListTokensResponse, ListTokensResponse__Output as _roost_v1_ListTokensResponse__Output } from './roost/v1/ListTokensResponse.ts';
import type { ListVmsRequest as _roost_v1_ListVmsRequest, ListVmsRequest__Output as _roost_v1_ListVmsRequest__Output } from './roost/v1/ListVmsRequest.ts';
import type { ListVmsResponse as _roost_v1_ListVmsResponse, ListVmsResponse__Output as _roost_v1_ListVmsResponse__Output } from './roost/v1/ListVmsResponse.ts';
import type { ListZonesRequest as _roost_v1_ListZonesRequest, ListZonesRequest__Output as _roost_v1_ListZonesRequest__Output } from './roost/v1/ListZonesRequest.ts';
import type { ListZonesResponse as _roost_v1_ListZonesResponse, ListZonesResponse__Output as _roost_v1_ListZonesResponse__Output } from './roost/v1/ListZonesResponse.ts';
import type { MemoryBalance as _roost_v1_MemoryBalance, MemoryBalance__Output as _roost_v1_MemoryBalance__Output } from './roost/v1/MemoryBalance.ts';
import type { MigrateVmRequest as _roost_v1_MigrateVmRequest, MigrateVmRequest__Output as _roost_v1_MigrateVmRequest__Output } from './roost/v1/MigrateVmRequest.ts';
import type { MigrateVmResponse as _roost_v1_MigrateVmResponse, MigrateVmResponse__Output as _roost_v1_MigrateVmResponse__Output } from './roost/v1/MigrateVmResponse.ts';
import type { Nic as _roost_v1_Nic, Nic__Output as _roost_v1_Nic__Output } from './roost/v1/Nic.ts';
import type { Node as _roost_v1_Node, Node__Output as _roost_v1_Node__Output } from './roost/v1/Node.ts';
import type { NodeFencing as _roost_v1_NodeFencing, NodeFencing__Output as _roost_v1_NodeFencing__Output } from './roost/v1/NodeFencing.ts';
import type { NodeScore as _roost_v1_NodeScore, NodeScore__Output as _roost_v1_NodeScore__Output } from './roost/v1/NodeScore.ts';
import type { NodeServiceClient as _roost_v1_NodeServiceClient, NodeServiceDefinition as _roost_v1_NodeServiceDefinition } from './roost/v1/NodeService.ts';
import type { NodeVerdict as _roost_v1_NodeVerdict, NodeVerdict__Output as _roost_v1_NodeVerdict__Output } from './roost/v1/NodeVerdict.ts';
import type { NumaNode as _roost_v1_NumaNode, NumaNode__Output as _roost_v1_NumaNode__Output } from './roost/v1/NumaNode.ts';
import type { PauseVmRequest as _roost_v1_PauseVmRequest, PauseVmRequest__Output as _roost_v1_PauseVmRequest__Output } from './roost/v1/PauseVmRequest.ts';
import type { PauseVmResponse as _roost_v1_PauseVmResponse, PauseVmResponse__Output as _roost_v1_PauseVmResponse__Output } from './roost/v1/PauseVmResponse.ts';
import type { PeerAddress as _roost_v1_PeerAddress, PeerAddress__Output as _roost_v1_PeerAddress__Output } from './roost/v1/PeerAddress.ts';
import type { PendingReason as _roost_v1_PendingReason, PendingReason__Output as _roost_v1_PendingReason__Output } from './roost/v1/PendingReason.ts';
import type { PlacementChange as _roost_v1_PlacementChange, PlacementChange__Output as _roost_v1_PlacementChange__Output } from './roost/v1/PlacementChange.ts';
import type { PlacementChanges as _roost_v1_PlacementChanges, PlacementChanges__Output as _roost_v1_PlacementChanges__Output } from './roost/v1/PlacementChanges.ts';
import type { PlacementDecision as _roost_v1_PlacementDecision, PlacementDecision__Output as _roost_v1_PlacementDecision__Output } from './roost/v1/PlacementDecision.ts';
import type { PlanDifference as _roost_v1_PlanDifference, PlanDifference__Output as _roost_v1_PlanDifference__Output } from './roost/v1/PlanDifference.ts';
import type { PlanRebalanceRequest as _roost_v1_PlanRebalanceRequest, PlanRebalanceRequest__Output as _roost_v1_PlanRebalanceRequest__Output } from './roost/v1/PlanRebalanceRequest.ts';
import type { PlanRebalanceResponse as _roost_v1_PlanRebalanceResponse, PlanRebalanceResponse__Output as _roost_v1_PlanRebalanceResponse__Output } from './roost/v1/PlanRebalanceResponse.ts';
import type { Policy as _roost_v1_Policy, Policy__Output as _roost_v1_Policy__Output } from './roost/v1/Policy.ts';
import type { PolicyFinding as _roost_v1_PolicyFinding, PolicyFinding__Output as _roost_v1_PolicyFinding__Output } from './roost/v1/PolicyFinding.ts';
import type { PolicyServiceClient as _roost_v1_PolicyServiceClient, PolicyServiceDefinition as _roost_v1_PolicyServiceDefinition } from './roost/v1/PolicyService.ts';
import type { PolicyViolation as _roost_v1_PolicyViolation, PolicyViolation__Output as _roost_v1_PolicyViolation__Output } from './roost/v1/PolicyViolation.ts';
import type { Pool as _roost_v1_Pool, Pool__Output as _roost_v1_Pool__Output } from './roost/v1/Pool.ts';
import type { PoolOnNode as _roost_v1_PoolOnNode, PoolOnNode__Output as _roost_v1_PoolOnNode__Output } from './roost/v1/PoolOnNode.ts';
import type { PoolServiceClient as _roost_v1_PoolServiceClient, PoolServiceDefinition as _roost_v1_PoolServiceDefinition } from './roost/v1/PoolService.ts';
import type { PoolStatus as _roost_v1_PoolStatus, PoolStatus__Output as _roost_v1_PoolStatus__Output } from './roost/v1/PoolStatus.ts';
import type { ReadInfo as _roost_v1_ReadInfo, ReadInfo__Output as _roost_v1_ReadInfo__Output } from './roost/v1/ReadInfo.ts';
import type { RebalanceStep as _roost_v1_RebalanceStep, RebalanceStep__Output as _roost_v1_RebalanceStep__Output } from './roost/v1/RebalanceStep.ts';
import type { Refusal as _roost_v1_Refusal, Refusal__Output as _roost_v1_Refusal__Output } from './roost/v1/Refusal.ts';
import type { RemoveNodeRequest as _roost_v1_RemoveNodeRequest, RemoveNodeRequest__Output as _roost_v1_RemoveNodeRequest__Output } from './roost/v1/RemoveNodeRequest.ts';
import type { RemoveNodeResponse as _roost_v1_RemoveNodeResponse, RemoveNodeResponse__Output as _roost_v1_RemoveNodeResponse__Output } from './roost/v1/RemoveNodeResponse.ts';
import type { ReplayPlansRequest as _roost_v1_ReplayPlansRequest, ReplayPlansRequest__Output as _roost_v1_ReplayPlansRequest__Output } from './roost/v1/ReplayPlansRequest.ts';
import type { ReplayPlansResponse as _roost_v1_ReplayPlansResponse, ReplayPlansResponse__Output as _roost_v1_ReplayPlansResponse__Output } from './roost/v1/ReplayPlansResponse.ts';
import type { ReplayedPlan as _roost_v1_ReplayedPlan, ReplayedPlan__Output as _roost_v1_ReplayedPlan__Output } from './roost/v1/ReplayedPlan.ts';
import type { RestartVmRequest as _roost_v1_RestartVmRequest, RestartVmRequest__Output as _roost_v1_RestartVmRequest__Output } from './roost/v1/RestartVmRequest.ts';
import type { RestartVmResponse as _roost_v1_RestartVmResponse, RestartVmResponse__Output as _roost_v1_RestartVmResponse__Output } from './roost/v1/RestartVmResponse.ts';
import type { RevokeTokenRequest as _roost_v1_RevokeTokenRequest, RevokeTokenRequest__Output as _roost_v1_RevokeTokenRequest__Output } from './roost/v1/RevokeTokenRequest.ts';
import type { RevokeTokenResponse as _roost_v1_RevokeTokenResponse, RevokeTokenResponse__Output as _roost_v1_RevokeTokenResponse__Output } from './roost/v1/RevokeTokenResponse.ts';
import type { RunGap as _roost_v1_RunGap, RunGap__Output as _roost_v1_RunGap__Output } from './roost/v1/RunGap.ts';
import type { RunMeeting as _roost_v1_RunMeeting, RunMeeting__Output as _roost_v1_RunMeeting__Output } from './roost/v1/RunMeeting.ts';
import type { RunRecord as _roost_v1_RunRecord, RunRecord__Output as _roost_v1_RunRecord__Output } from './roost/v1/RunRecord.ts';
import type { SchedulerServiceClient as _roost_v1_SchedulerServiceClient, SchedulerServiceDefinition as _roost_v1_SchedulerServiceDefinition } from './roost/v1/SchedulerService.ts';
import type { SetFencingRequest as _roost_v1_SetFencingRequest, SetFencingRequest__Output as _roost_v1_SetFencingRequest__Output } from './roost/v1/SetFencingRequest.ts';
import type { SetFencingResponse as _roost_v1_SetFencingResponse, SetFencingResponse__Output as _roost_v1_SetFencingResponse__Output } from './roost/v1/SetFencingResponse.ts';
import type { SetZoneRequest as _roost_v1_SetZoneRequest, SetZoneRequest__Output as _roost_v1_SetZoneRequest__Output } from './roost/v1/SetZoneRequest.ts';
import type { SetZoneResponse as _roost_v1_SetZoneResponse, SetZoneResponse__Output as _roost_v1_SetZoneResponse__Output } from './roost/v1/SetZoneResponse.ts';
import type { Setting as _roost_v1_Setting, Setting__Output as _roost_v1_Setting__Output } from './roost/v1/Setting.ts';
import type { SettingProfile as _roost_v1_SettingProfile, SettingProfile__Output as _roost_v1_SettingProfile__Output } from './roost/v1/SettingProfile.ts';
import type { ShutdownVmRequest as _roost_v1_ShutdownVmRequest, ShutdownVmRequest__Output as _roost_v1_ShutdownVmRequest__Output } from './roost/v1/ShutdownVmRequest.ts';
import type { ShutdownVmResponse as _roost_v1_ShutdownVmResponse, ShutdownVmResponse__Output as _roost_v1_ShutdownVmResponse__Output } from './roost/v1/ShutdownVmResponse.ts';
import type { StartVmRequest as _roost_v1_StartVmRequest, StartVmRequest__Output as _roost_v1_StartVmRequest__Output } from './roost/v1/StartVmRequest.ts';
import type { StartVmResponse as _roost_v1_StartVmResponse, StartVmResponse__Output as _roost_v1_StartVmResponse__Output } from './roost/v1/StartVmResponse.ts';
import type { StopAgentRequest as _roost_v1_StopAgentRequest, StopAgentRequest__Output as _roost_v1_StopAgentRequest__Output } from './roost/v1/StopAgentRequest.ts';
import type { StopAgentResponse as _roost_v1_StopAgentResponse, StopAgentResponse__Output as _roost_v1_StopAgentResponse__Output } from './roost/v1/StopAgentResponse.ts';
import type { StrandedVm as _roost_v1_StrandedVm, StrandedVm__Output as _roost_v1_StrandedVm__Output } from './roost/v1/StrandedVm.ts';
import type { TableDifference as _roost_v1_TableDifference, TableDifference__Output as _roost_v1_TableDifference__Output } from './roost/v1/TableDifference.ts';
import type { Task as _roost_v1_Task, Task__Output as _roost_v1_Task__Output } from './roost/v1/Task.ts';
import type { TaskError as _roost_v1_TaskError, TaskError__Output as _roost_v1_TaskError__Output } from './roost/v1/TaskError.ts';
import type { TaskServiceClient as _roost_v1_TaskServiceClient, TaskServiceDefinition as _roost_v1_TaskServiceDefinition } from './roost/v1/TaskService.ts';
import type { TaskStep as _roost_v1_TaskStep, TaskStep__Output as _roost_v1_TaskStep__Output } from './roost/v1/TaskStep.ts';
import type { TaskWait as _roost_v1_TaskWait, TaskWait__Output as _roost_v1_TaskWait__Output } from './roost/v1/TaskWait.ts';
import type { TestFencingRequest as _roost_v1_TestFencingRequest, TestFencingRequest__Output as _roost_v1_TestFencingRequest__Output } from './roost/v1/TestFencingRequest.ts';
import type { TestFencingResponse as _roost_v1_TestFencingResponse, TestFencingResponse__Output as _roost_v1_TestFencingResponse__Output } from './roost/v1/TestFencingResponse.ts';
import type { TestedFenceDevice as _roost_v1_TestedFenceDevice, TestedFenceDevice__Output as _roost_v1_TestedFenceDevice__Output } from './roost/v1/TestedFenceDevice.ts';
import type { Token as _roost_v1_Token, Token__Output as _roost_v1_Token__Output } from './roost/v1/Token.ts';
import type { UnaskedNode as _roost_v1_UnaskedNode, UnaskedNode__Output as _roost_v1_UnaskedNode__Output } from './roost/v1/UnaskedNode.ts';
import type { UndrainNodeRequest as _roost_v1_UndrainNodeRequest, UndrainNodeRequest__Output as _roost_v1_UndrainNodeRequest__Output } from './roost/v1/UndrainNodeRequest.ts';
import type { UndrainNodeResponse as _roost_v1_UndrainNodeResponse, UndrainNodeResponse__Output as _roost_v1_UndrainNodeResponse__Output } from './roost/v1/UndrainNodeResponse.ts';
import type { UnpauseVmRequest as _roost_v1_UnpauseVmRequest, UnpauseVmRequest__Output as _roost_v1_UnpauseVmRequest__Output } from './roost/v1/UnpauseVmRequest.ts';
import type { UnpauseVmResponse as _roost_v1_UnpauseVmResponse, UnpauseVmResponse__Output as _roost_v1_UnpauseVmResponse__Output } from './roost/v1/UnpauseVmResponse.ts';
import type { UnsetFencingRequest as _roost_v1_UnsetFencingRequest, UnsetFencingRequest__Output as _roost_v1_UnsetFencingRequest__Output } from './roost/v1/UnsetFencingRequest.ts';
import type { UnsetFencingResponse as _roost_v1_UnsetFencingResponse, UnsetFencingResponse__Output as _roost_v1_UnsetFencingResponse__Output } from './roost/v1/UnsetFencingResponse.ts';
import type { UpdatePolicyRequest as _roost_v1_UpdatePolicyRequest, UpdatePolicyRequest__Output as _roost_v1_UpdatePolicyRequest__Output } from './roost/v1/UpdatePolicyRequest.ts';
import type { UpdatePolicyResponse as _roost_v1_UpdatePolicyResponse, UpdatePolicyResponse__Output as _roost_v1_UpdatePolicyResponse__Output } from './roost/v1/UpdatePolicyResponse.ts';
import type { UpdateSettingRequest as _roost_v1_UpdateSettingRequest, UpdateSettingRequest__Output as _roost_v1_UpdateSettingRequest__Output } from './roost/v1/UpdateSettingRequest.ts';
import type { UpdateSettingResponse as _roost_v1_UpdateSettingResponse, UpdateSettingResponse__Output as _roost_v1_UpdateSettingResponse__Output } from './roost/v1/UpdateSettingResponse.ts';
import type { VerifiedNode as _roost_v1_VerifiedNode, VerifiedNode__Output as _roost_v1_VerifiedNode__Output } from './roost/v1/VerifiedNode.ts';
import type { VerifiedTable as _roost_v1_VerifiedTable, VerifiedTable__Output as _roost_v1_VerifiedTable__Output } from './roost/v1/VerifiedTable.ts';
import type { VerifyClusterRequest as _roost_v1_VerifyClusterRequest, VerifyClusterRequest__Output as _roost_v1_VerifyClusterRequest__Output } from './roost/v1/VerifyClusterRequest.ts';
import type { VerifyClusterResponse as _roost_v1_VerifyClusterResponse, VerifyClusterResponse__Output as _roost_v1_VerifyClusterResponse__Output } from './roost/v1/VerifyClusterResponse.ts';
import type { Vm as _roost_v1_Vm, Vm__Output as _roost_v1_Vm__Output } from './roost/v1/Vm.ts';
import type { VmDefinition as _roost_v1_VmDefinition, VmDefinition__Output as _roost_v1_VmDefinition__Output } from './roost/v1/VmDefinition.ts';
import type { VmServiceClient as _roost_v1_VmServiceClient, VmServiceDefinition as _roost_v1_VmServiceDefinition } from './roost/v1/VmService.ts';
import type { WatchEventsRequest as _roost_v1_WatchEventsRequest, WatchEventsRequest__Output as _roost_v1_WatchEventsRequest__Output } from './roost/v1/WatchEventsRequest.ts';
import type { WatchEventsResponse as _roost_v1_WatchEventsResponse, WatchEventsResponse__Output as _roost_v1_WatchEventsResponse__Output } from './roost/v1/WatchEventsResponse.ts';
import type { WatchTaskRequest as _roost_v1_WatchTaskRequest, WatchTaskRequest__Output as _roost_v1_WatchTaskRequest__Output } from './roost/v1/WatchTaskRequest.ts';
import type { WatchTaskResponse as _roost_v1_WatchTaskResponse, WatchTaskResponse__Output as _roost_v1_WatchTaskResponse__Output } from './roost/v1/WatchTaskResponse.ts';
import type { WatchVmRequest as _roost_v1_WatchVmRequest, WatchVmRequest__Output as _roost_v1_WatchVmRequest__Output } from './roost/v1/WatchVmRequest.ts';
import type { WatchVmResponse as _roost_v1_WatchVmResponse, WatchVmResponse__Output as _roost_v1_WatchVmResponse__Output } from './roost/v1/WatchVmResponse.ts';
import type { WhatIfMove as _roost_v1_WhatIfMove, WhatIfMove__Output as _roost_v1_WhatIfMove__Output } from './roost/v1/WhatIfMove.ts';
import type { WhatIfNode as _roost_v1_WhatIfNode, WhatIfNode__Output as _roost_v1_WhatIfNode__Output } from './roost/v1/WhatIfNode.ts';
import type { WhatIfRequest as _roost_v1_WhatIfRequest, WhatIfRequest__Output as _roost_v1_WhatIfRequest__Output } from './roost/v1/WhatIfRequest.ts';
import type { WhatIfResponse as _roost_v1_WhatIfResponse, WhatIfResponse__Output as _roost_v1_WhatIfResponse__Output } from './roost/v1/WhatIfResponse.ts';
import type { WhatIfStep as _roost_v1_WhatIfStep, WhatIfStep__Output as _roost_v1_WhatIfStep__Output } from './roost/v1/WhatIfStep.ts';
import type { WhyNot as _roost_v1_WhyNot, WhyNot__Output as _roost_v1_WhyNot__Output } from './roost/v1/WhyNot.ts';
import type { Zone as _roost_v1_Zone, Zone__Output as _roost_v1_Zone__Output } from './roost/v1/Zone.ts';

type SubtypeConstructor<Constructor extends new (...args: any) => any, Subtype> = {
  new(...args: ConstructorParameters<Constructor>): Subtype;
};

export interface ProtoGrpcType {
  roost: {
    internal: {
      v1: {
        CheckpointChunk: MessageTypeDefinition<_roost_internal_v1_CheckpointChunk, _roost_internal_v1_CheckpointChunk__Output>
        CheckpointRequest: MessageTypeDefinition<_roost_internal_v1_CheckpointRequest, _roost_internal_v1_CheckpointRequest__Output>
        Frame: MessageTypeDefinition<_roost_internal_v1_Frame, _roost_internal_v1_Frame__Output>
        Peer: SubtypeConstructor<typeof grpc.Client, _roost_internal_v1_PeerClient> & { service: _roost_internal_v1_PeerDefinition }
        SendResponse: MessageTypeDefinition<_roost_internal_v1_SendResponse, _roost_internal_v1_SendResponse__Output>
      }
    }
    v1: {
      AbortMigrationRequest: MessageTypeDefinition<_roost_v1_AbortMigrationRequest, _roost_v1_AbortMigrationRequest__Output>
      AbortMigrationResponse: MessageTypeDefinition<_roost_v1_AbortMigrationResponse, _roost_v1_AbortMigrationResponse__Output>
      ApplyProfileRequest: MessageTypeDefinition<_roost_v1_ApplyProfileRequest, _roost_v1_ApplyProfileRequest__Output>
      ApplyProfileResponse: MessageTypeDefinition<_roost_v1_ApplyProfileResponse, _roost_v1_ApplyProfileResponse__Output>
      AuditRunsRequest: MessageTypeDefinition<_roost_v1_AuditRunsRequest, _roost_v1_AuditRunsRequest__Output>
      AuditRunsResponse: MessageTypeDefinition<_roost_v1_AuditRunsResponse, _roost_v1_AuditRunsResponse__Output>
      AuditService: SubtypeConstructor<typeof grpc.Client, _roost_v1_AuditServiceClient> & { service: _roost_v1_AuditServiceDefinition }
      AuditedNode: MessageTypeDefinition<_roost_v1_AuditedNode, _roost_v1_AuditedNode__Output>
      AuditedRun: MessageTypeDefinition<_roost_v1_AuditedRun, _roost_v1_AuditedRun__Output>
      AuditedVm: MessageTypeDefinition<_roost_v1_AuditedVm, _roost_v1_AuditedVm__Output>
      BackupClusterRequest: MessageTypeDefinition<_roost_v1_BackupClusterRequest, _roost_v1_BackupClusterRequest__Output>
      BackupClusterResponse: MessageTypeDefinition<_roost_v1_BackupClusterResponse, _roost_v1_BackupClusterResponse__Output>
      /**
       * Refused unless the setting bench.enabled is true. For users only, never for nodes.
       */
      Bench: SubtypeConstructor<typeof grpc.Client, _roost_v1_BenchClient> & { service: _roost_v1_BenchDefinition }
      BenchGetRequest: MessageTypeDefinition<_roost_v1_BenchGetRequest, _roost_v1_BenchGetRequest__Output>
      BenchGetResponse: MessageTypeDefinition<_roost_v1_BenchGetResponse, _roost_v1_BenchGetResponse__Output>
      BenchPutRequest: MessageTypeDefinition<_roost_v1_BenchPutRequest, _roost_v1_BenchPutRequest__Output>
      BenchPutResponse: MessageTypeDefinition<_roost_v1_BenchPutResponse, _roost_v1_BenchPutResponse__Output>
      Boot: MessageTypeDefinition<_roost_v1_Boot, _roost_v1_Boot__Output>
      CancelTaskRequest: MessageTypeDefinition<_roost_v1_CancelTaskRequest, _roost_v1_CancelTaskRequest__Output>
      CancelTaskResponse: MessageTypeDefinition<_roost_v1_CancelTaskResponse, _roost_v1_CancelTaskResponse__Output>
      ClusterService: SubtypeConstructor<typeof grpc.Client, _roost_v1_ClusterServiceClient> & { service: _roost_v1_ClusterServiceDefinition }
      ConfirmJoinRequest: MessageTypeDefinition<_roost_v1_ConfirmJoinRequest, _roost_v1_ConfirmJoinRequest__Output>
      ConfirmJoinResponse: MessageTypeDefinition<_roost_v1_ConfirmJoinResponse, _roost_v1_ConfirmJoinResponse__Output>
      Consistency: EnumTypeDefinition
      Cpu: MessageTypeDefinition<_roost_v1_Cpu, _roost_v1_Cpu__Output>
      CpuPinning: MessageTypeDefinition<_roost_v1_CpuPinning, _roost_v1_CpuPinning__Output>
      CpuTopology: MessageTypeDefinition<_roost_v1_CpuTopology, _roost_v1_CpuTopology__Output>
      CreatePolicyRequest: MessageTypeDefinition<_roost_v1_CreatePolicyRequest, _roost_v1_CreatePolicyRequest__Output>
      CreatePolicyResponse: MessageTypeDefinition<_roost_v1_CreatePolicyResponse, _roost_v1_CreatePolicyResponse__Output>
      CreatePoolRequest: MessageTypeDefinition<_roost_v1_CreatePoolRequest, _roost_v1_CreatePoolRequest__Output>
      CreatePoolResponse: MessageTypeDefinition<_roost_v1_CreatePoolResponse, _roost_v1_CreatePoolResponse__Output>
      CreateTokenRequest: MessageTypeDefinition<_roost_v1_CreateTokenRequest, _roost_v1_CreateTokenRequest__Output>
      CreateTokenResponse: MessageTypeDefinition<_roost_v1_CreateTokenResponse, _roost_v1_CreateTokenResponse__Output>
      CreateVmRequest: MessageTypeDefinition<_roost_v1_CreateVmRequest, _roost_v1_CreateVmRequest__Output>
      CreateVmResponse: MessageTypeDefinition<_roost_v1_CreateVmResponse, _roost_v1_CreateVmResponse__Output>
      DeletePolicyRequest: MessageTypeDefinition<_roost_v1_DeletePolicyRequest, _roost_v1_DeletePolicyRequest__Output>
      DeletePolicyResponse: MessageTypeDefinition<_roost_v1_DeletePolicyResponse, _roost_v1_DeletePolicyResponse__Output>
      DeletePoolRequest: MessageTypeDefinition<_roost_v1_DeletePoolRequest, _roost_v1_DeletePoolRequest__Output>
      DeletePoolResponse: MessageTypeDefinition<_roost_v1_DeletePoolResponse, _roost_v1_DeletePoolResponse__Output>
      DeleteVmRequest: MessageTypeDefinition<_roost_v1_DeleteVmRequest, _roost_v1_DeleteVmRequest__Output>
      DeleteVmResponse: MessageTypeDefinition<_roost_v1_DeleteVmResponse, _roost_v1_DeleteVmResponse__Output>
      DiagnoseRequest: MessageTypeDefinition<_roost_v1_DiagnoseRequest, _roost_v1_DiagnoseRequest__Output>
      DiagnoseResponse: MessageTypeDefinition<_roost_v1_DiagnoseResponse, _roost_v1_DiagnoseResponse__Output>
      DisableNodeRequest: MessageTypeDefinition<_roost_v1_DisableNodeRequest, _roost_v1_DisableNodeRequest__Output>
      DisableNodeResponse: MessageTypeDefinition<_roost_v1_DisableNodeResponse, _roost_v1_DisableNodeResponse__Output>
      DisablePolicyRequest: MessageTypeDefinition<_roost_v1_DisablePolicyRequest, _roost_v1_DisablePolicyRequest__Output>
      DisablePolicyResponse: MessageTypeDefinition<_roost_v1_DisablePolicyResponse, _roost_v1_DisablePolicyResponse__Output>
      Disk: MessageTypeDefinition<_roost_v1_Disk, _roost_v1_Disk__Output>
      DoctorService: SubtypeConstructor<typeof grpc.Client, _roost_v1_DoctorServiceClient> & { service: _roost_v1_DoctorServiceDefinition }
      Drain: MessageTypeDefinition<_roost_v1_Drain, _roost_v1_Drain__Output>
      DrainBlock: MessageTypeDefinition<_roost_v1_DrainBlock, _roost_v1_DrainBlock__Output>
      DrainNodeRequest: MessageTypeDefinition<_roost_v1_DrainNodeRequest, _roost_v1_DrainNodeRequest__Output>
      DrainNodeResponse: MessageTypeDefinition<_roost_v1_DrainNodeResponse, _roost_v1_DrainNodeResponse__Output>
      DrainStep: MessageTypeDefinition<_roost_v1_DrainStep, _roost_v1_DrainStep__Output>
      EditNodeRequest: MessageTypeDefinition<_roost_v1_EditNodeRequest, _roost_v1_EditNodeRequest__Output>
      EditNodeResponse: MessageTypeDefinition<_roost_v1_EditNodeResponse, _roost_v1_EditNodeResponse__Output>
      EnableNodeRequest: MessageTypeDefinition<_roost_v1_EnableNodeRequest, _roost_v1_EnableNodeRequest__Output>
      EnableNodeResponse: MessageTypeDefinition<_roost_v1_EnableNodeResponse, _roost_v1_EnableNodeResponse__Output>
      EnablePolicyRequest: MessageTypeDefinition<_roost_v1_EnablePolicyRequest, _roost_v1_EnablePolicyRequest__Output>
      EnablePolicyResponse: MessageTypeDefinition<_roost_v1_EnablePolicyResponse, _roost_v1_EnablePolicyResponse__Output>
      ErrorDetail: MessageTypeDefinition<_roost_v1_ErrorDetail, _roost_v1_ErrorDetail__Output>
      Event: MessageTypeDefinition<_roost_v1_Event, _roost_v1_Event__Output>
      ExplainLimitsRequest: MessageTypeDefinition<_roost_v1_ExplainLimitsRequest, _roost_v1_ExplainLimitsRequest__Output>
      ExplainLimitsResponse: MessageTypeDefinition<_roost_v1_ExplainLimitsResponse, _roost_v1_ExplainLimitsResponse__Output>
      ExplainVmRequest: MessageTypeDefinition<_roost_v1_ExplainVmRequest, _roost_v1_ExplainVmRequest__Output>
      ExplainVmResponse: MessageTypeDefinition<_roost_v1_ExplainVmResponse, _roost_v1_ExplainVmResponse__Output>
      ExportPlanFileRequest: MessageTypeDefinition<_roost_v1_ExportPlanFileRequest, _roost_v1_ExportPlanFileRequest__Output>
      ExportPlanFileResponse: MessageTypeDefinition<_roost_v1_ExportPlanFileResponse, _roost_v1_ExportPlanFileResponse__Output>
      Failover: MessageTypeDefinition<_roost_v1_Failover, _roost_v1_Failover__Output>
      FenceAttempt: MessageTypeDefinition<_roost_v1_FenceAttempt, _roost_v1_FenceAttempt__Output>
      FenceDevice: MessageTypeDefinition<_roost_v1_FenceDevice, _roost_v1_FenceDevice__Output>
      FenceNodeRequest: MessageTypeDefinition<_roost_v1_FenceNodeRequest, _roost_v1_FenceNodeRequest__Output>
      FenceNodeResponse: MessageTypeDefinition<_roost_v1_FenceNodeResponse, _roost_v1_FenceNodeResponse__Output>
      FenceStep: MessageTypeDefinition<_roost_v1_FenceStep, _roost_v1_FenceStep__Output>
      FieldViolation: MessageTypeDefinition<_roost_v1_FieldViolation, _roost_v1_FieldViolation__Output>
      Finding: MessageTypeDefinition<_roost_v1_Finding, _roost_v1_Finding__Output>
      ForecastHaRequest: MessageTypeDefinition<_roost_v1_ForecastHaRequest, _roost_v1_ForecastHaRequest__Output>
      ForecastHaResponse: MessageTypeDefinition<_roost_v1_ForecastHaResponse, _roost_v1_ForecastHaResponse__Output>
      FoundDomain: MessageTypeDefinition<_roost_v1_FoundDomain, _roost_v1_FoundDomain__Output>
      FoundRegistration: MessageTypeDefinition<_roost_v1_FoundRegistration, _roost_v1_FoundRegistration__Output>
      FoundVolume: MessageTypeDefinition<_roost_v1_FoundVolume, _roost_v1_FoundVolume__Output>
      GetClusterRequest: MessageTypeDefinition<_roost_v1_GetClusterRequest, _roost_v1_GetClusterRequest__Output>
      GetClusterResponse: MessageTypeDefinition<_roost_v1_GetClusterResponse, _roost_v1_GetClusterResponse__Output>
      GetHaRequest: MessageTypeDefinition<_roost_v1_GetHaRequest, _roost_v1_GetHaRequest__Output>
      GetHaResponse: MessageTypeDefinition<_roost_v1_GetHaResponse, _roost_v1_GetHaResponse__Output>
      GetNodeRequest: MessageTypeDefinition<_roost_v1_GetNodeRequest, _roost_v1_GetNodeRequest__Output>
      GetNodeResponse: MessageTypeDefinition<_roost_v1_GetNodeResponse, _roost_v1_GetNodeResponse__Output>
      GetPolicyRequest: MessageTypeDefinition<_roost_v1_GetPolicyRequest, _roost_v1_GetPolicyRequest__Output>
      GetPolicyResponse: MessageTypeDefinition<_roost_v1_GetPolicyResponse, _roost_v1_GetPolicyResponse__Output>
      GetRunRecordsRequest: MessageTypeDefinition<_roost_v1_GetRunRecordsRequest, _roost_v1_GetRunRecordsRequest__Output>
      GetRunRecordsResponse: MessageTypeDefinition<_roost_v1_GetRunRecordsResponse, _roost_v1_GetRunRecordsResponse__Output>
      GetTaskRequest: MessageTypeDefinition<_roost_v1_GetTaskRequest, _roost_v1_GetTaskRequest__Output>
      GetTaskResponse: MessageTypeDefinition<_roost_v1_GetTaskResponse, _roost_v1_GetTaskResponse__Output>
      GetVmRequest: MessageTypeDefinition<_roost_v1_GetVmRequest, _roost_v1_GetVmRequest__Output>
      GetVmResponse: MessageTypeDefinition<_roost_v1_GetVmResponse, _roost_v1_GetVmResponse__Output>
      Ha: MessageTypeDefinition<_roost_v1_Ha, _roost_v1_Ha__Output>
      HaFate: MessageTypeDefinition<_roost_v1_HaFate, _roost_v1_HaFate__Output>
      HaForecast: MessageTypeDefinition<_roost_v1_HaForecast, _roost_v1_HaForecast__Output>
      HaImpossible: MessageTypeDefinition<_roost_v1_HaImpossible, _roost_v1_HaImpossible__Output>
      HaNode: MessageTypeDefinition<_roost_v1_HaNode, _roost_v1_HaNode__Output>
      HaService: SubtypeConstructor<typeof grpc.Client, _roost_v1_HaServiceClient> & { service: _roost_v1_HaServiceDefinition }
      HaVm: MessageTypeDefinition<_roost_v1_HaVm, _roost_v1_HaVm__Output>
      HaWait: MessageTypeDefinition<_roost_v1_HaWait, _roost_v1_HaWait__Output>
      HistoryEntry: MessageTypeDefinition<_roost_v1_HistoryEntry, _roost_v1_HistoryEntry__Output>
      InspectNodeRequest: MessageTypeDefinition<_roost_v1_InspectNodeRequest, _roost_v1_InspectNodeRequest__Output>
      InspectNodeResponse: MessageTypeDefinition<_roost_v1_InspectNodeResponse, _roost_v1_InspectNodeResponse__Output>
      InspectReplicaRequest: MessageTypeDefinition<_roost_v1_InspectReplicaRequest, _roost_v1_InspectReplicaRequest__Output>
      InspectReplicaResponse: MessageTypeDefinition<_roost_v1_InspectReplicaResponse, _roost_v1_InspectReplicaResponse__Output>
      IssueCertificateRequest: MessageTypeDefinition<_roost_v1_IssueCertificateRequest, _roost_v1_IssueCertificateRequest__Output>
      IssueCertificateResponse: MessageTypeDefinition<_roost_v1_IssueCertificateResponse, _roost_v1_IssueCertificateResponse__Output>
      Job: MessageTypeDefinition<_roost_v1_Job, _roost_v1_Job__Output>
      JobProgress: MessageTypeDefinition<_roost_v1_JobProgress, _roost_v1_JobProgress__Output>
      JoinRequest: MessageTypeDefinition<_roost_v1_JoinRequest, _roost_v1_JoinRequest__Output>
      JoinResponse: MessageTypeDefinition<_roost_v1_JoinResponse, _roost_v1_JoinResponse__Output>
      LimitExplanation: MessageTypeDefinition<_roost_v1_LimitExplanation, _roost_v1_LimitExplanation__Output>
      LimitHolder: MessageTypeDefinition<_roost_v1_LimitHolder, _roost_v1_LimitHolder__Output>
      LimitPool: MessageTypeDefinition<_roost_v1_LimitPool, _roost_v1_LimitPool__Output>
      /**
       * How many jobs may run at the same time (LIM-1..8).
       */
      LimitService: SubtypeConstructor<typeof grpc.Client, _roost_v1_LimitServiceClient> & { service: _roost_v1_LimitServiceDefinition }
      LintPoliciesRequest: MessageTypeDefinition<_roost_v1_LintPoliciesRequest, _roost_v1_LintPoliciesRequest__Output>
      LintPoliciesResponse: MessageTypeDefinition<_roost_v1_LintPoliciesResponse, _roost_v1_LintPoliciesResponse__Output>
      ListFailoversRequest: MessageTypeDefinition<_roost_v1_ListFailoversRequest, _roost_v1_ListFailoversRequest__Output>
      ListFailoversResponse: MessageTypeDefinition<_roost_v1_ListFailoversResponse, _roost_v1_ListFailoversResponse__Output>
      ListFencingRequest: MessageTypeDefinition<_roost_v1_ListFencingRequest, _roost_v1_ListFencingRequest__Output>
      ListFencingResponse: MessageTypeDefinition<_roost_v1_ListFencingResponse, _roost_v1_ListFencingResponse__Output>
      ListLimitsRequest: MessageTypeDefinition<_roost_v1_ListLimitsRequest, _roost_v1_ListLimitsRequest__Output>
      ListLimitsResponse: MessageTypeDefinition<_roost_v1_ListLimitsResponse, _roost_v1_ListLimitsResponse__Output>
      ListNodesRequest: MessageTypeDefinition<_roost_v1_ListNodesRequest, _roost_v1_ListNodesRequest__Output>
      ListNodesResponse: MessageTypeDefinition<_roost_v1_ListNodesResponse, _roost_v1_ListNodesResponse__Output>
      ListPoliciesRequest: MessageTypeDefinition<_roost_v1_ListPoliciesRequest, _roost_v1_ListPoliciesRequest__Output>
      ListPoliciesResponse: MessageTypeDefinition<_roost_v1_ListPoliciesResponse, _roost_v1_ListPoliciesResponse__Output>
      ListPoolsRequest: MessageTypeDefinition<_roost_v1_ListPoolsRequest, _roost_v1_ListPoolsRequest__Output>
      ListPoolsResponse: MessageTypeDefinition<_roost_v1_ListPoolsResponse, _roost_v1_ListPoolsResponse__Output>
      ListSettingsRequest: MessageTypeDefinition<_roost_v1_ListSettingsRequest, _roost_v1_ListSettingsRequest__Output>
      ListSettingsResponse: MessageTypeDefinition<_roost_v1_ListSettingsResponse, _roost_v1_ListSettingsResponse__Output>
      ListTasksRequest: MessageTypeDefinition<_roost_v1_ListTasksRequest, _roost_v1_ListTasksRequest__Output>
      ListTasksResponse: MessageTypeDefinition<_roost_v1_ListTasksResponse, _roost_v1_ListTasksResponse__Output>
      ListTokensRequest: MessageTypeDefinition<_roost_v1_ListTokensRequest, _roost_v1_ListTokensRequest__Output>
      ListTokensResponse: MessageTypeDefinition<_roost_v1_ListTokensResponse, _roost_v1_ListTokensResponse__Output>
      ListVmsRequest: MessageTypeDefinition<_roost_v1_ListVmsRequest, _roost_v1_ListVmsRequest__Output>
      ListVmsResponse: MessageTypeDefinition<_roost_v1_ListVmsResponse, _roost_v1_ListVmsResponse__Output>
      ListZonesRequest: MessageTypeDefinition<_roost_v1_ListZonesRequest, _roost_v1_ListZonesRequest__Output>
      ListZonesResponse: MessageTypeDefinition<_roost_v1_ListZonesResponse, _roost_v1_ListZonesResponse__Output>
      MemoryBalance: MessageTypeDefinition<_roost_v1_MemoryBalance, _roost_v1_MemoryBalance__Output>
      MigrateVmRequest: MessageTypeDefinition<_roost_v1_MigrateVmRequest, _roost_v1_MigrateVmRequest__Output>
      MigrateVmResponse: MessageTypeDefinition<_roost_v1_MigrateVmResponse, _roost_v1_MigrateVmResponse__Output>
      Nic: MessageTypeDefinition<_roost_v1_Nic, _roost_v1_Nic__Output>
      Node: MessageTypeDefinition<_roost_v1_Node, _roost_v1_Node__Output>
      NodeFencing: MessageTypeDefinition<_roost_v1_NodeFencing, _roost_v1_NodeFencing__Output>
      NodeScore: MessageTypeDefinition<_roost_v1_NodeScore, _roost_v1_NodeScore__Output>
      NodeService: SubtypeConstructor<typeof grpc.Client, _roost_v1_NodeServiceClient> & { service: _roost_v1_NodeServiceDefinition }
      NodeVerdict: MessageTypeDefinition<_roost_v1_NodeVerdict, _roost_v1_NodeVerdict__Output>
      NumaNode: MessageTypeDefinition<_roost_v1_NumaNode, _roost_v1_NumaNode__Output>
      PauseVmRequest: MessageTypeDefinition<_roost_v1_PauseVmRequest, _roost_v1_PauseVmRequest__Output>
      PauseVmResponse: MessageTypeDefinition<_roost_v1_PauseVmResponse, _roost_v1_PauseVmResponse__Output>
      PeerAddress: MessageTypeDefinition<_roost_v1_PeerAddress, _roost_v1_PeerAddress__Output>
      PendingReason: MessageTypeDefinition<_roost_v1_PendingReason, _roost_v1_PendingReason__Output>
      PlacementChange: MessageTypeDefinition<_roost_v1_PlacementChange, _roost_v1_PlacementChange__Output>
      PlacementChanges: MessageTypeDefinition<_roost_v1_PlacementChanges, _roost_v1_PlacementChanges__Output>
      PlacementDecision: MessageTypeDefinition<_roost_v1_PlacementDecision, _roost_v1_PlacementDecision__Output>
      PlanDifference: MessageTypeDefinition<_roost_v1_PlanDifference, _roost_v1_PlanDifference__Output>
      PlanRebalanceRequest: MessageTypeDefinition<_roost_v1_PlanRebalanceRequest, _roost_v1_PlanRebalanceRequest__Output>
      PlanRebalanceResponse: MessageTypeDefinition<_roost_v1_PlanRebalanceResponse, _roost_v1_PlanRebalanceResponse__Output>
      Policy: MessageTypeDefinition<_roost_v1_Policy, _roost_v1_Policy__Output>
      PolicyFinding: MessageTypeDefinition<_roost_v1_PolicyFinding, _roost_v1_PolicyFinding__Output>
      PolicyService: SubtypeConstructor<typeof grpc.Client, _roost_v1_PolicyServiceClient> & { service: _roost_v1_PolicyServiceDefinition }
      PolicyViolation: MessageTypeDefinition<_roost_v1_PolicyViolation, _roost_v1_PolicyViolation__Output>
      Pool: MessageTypeDefinition<_roost_v1_Pool, _roost_v1_Pool__Output>
      PoolOnNode: MessageTypeDefinition<_roost_v1_PoolOnNode, _roost_v1_PoolOnNode__Output>
      PoolService: SubtypeConstructor<typeof grpc.Client, _roost_v1_PoolServiceClient> & { service: _roost_v1_PoolServiceDefinition }
      PoolStatus: MessageTypeDefinition<_roost_v1_PoolStatus, _roost_v1_PoolStatus__Output>
      ReadInfo: MessageTypeDefinition<_roost_v1_ReadInfo, _roost_v1_ReadInfo__Output>
      RebalanceStep: MessageTypeDefinition<_roost_v1_RebalanceStep, _roost_v1_RebalanceStep__Output>
      Refusal: MessageTypeDefinition<_roost_v1_Refusal, _roost_v1_Refusal__Output>
      RemoveNodeRequest: MessageTypeDefinition<_roost_v1_RemoveNodeRequest, _roost_v1_RemoveNodeRequest__Output>
      RemoveNodeResponse: MessageTypeDefinition<_roost_v1_RemoveNodeResponse, _roost_v1_RemoveNodeResponse__Output>
      ReplayPlansRequest: MessageTypeDefinition<_roost_v1_ReplayPlansRequest, _roost_v1_ReplayPlansRequest__Output>
      ReplayPlansResponse: MessageTypeDefinition<_roost_v1_ReplayPlansResponse, _roost_v1_ReplayPlansResponse__Output>
      ReplayedPlan: MessageTypeDefinition<_roost_v1_ReplayedPlan, _roost_v1_ReplayedPlan__Output>
      RestartVmRequest: MessageTypeDefinition<_roost_v1_RestartVmRequest, _roost_v1_RestartVmRequest__Output>
      RestartVmResponse: MessageTypeDefinition<_roost_v1_RestartVmResponse, _roost_v1_RestartVmResponse__Output>
      RevokeTokenRequest: MessageTypeDefinition<_roost_v1_RevokeTokenRequest, _roost_v1_RevokeTokenRequest__Output>
      RevokeTokenResponse: MessageTypeDefinition<_roost_v1_RevokeTokenResponse, _roost_v1_RevokeTokenResponse__Output>
      RunGap: MessageTypeDefinition<_roost_v1_RunGap, _roost_v1_RunGap__Output>
      RunMeeting: MessageTypeDefinition<_roost_v1_RunMeeting, _roost_v1_RunMeeting__Output>
      RunRecord: MessageTypeDefinition<_roost_v1_RunRecord, _roost_v1_RunRecord__Output>
      SchedulerService: SubtypeConstructor<typeof grpc.Client, _roost_v1_SchedulerServiceClient> & { service: _roost_v1_SchedulerServiceDefinition }
      SetFencingRequest: MessageTypeDefinition<_roost_v1_SetFencingRequest, _roost_v1_SetFencingRequest__Output>
      SetFencingResponse: MessageTypeDefinition<_roost_v1_SetFencingResponse, _roost_v1_SetFencingResponse__Output>
      SetZoneRequest: MessageTypeDefinition<_roost_v1_SetZoneRequest, _roost_v1_SetZoneRequest__Output>
      SetZoneResponse: MessageTypeDefinition<_roost_v1_SetZoneResponse, _roost_v1_SetZoneResponse__Output>
      Setting: MessageTypeDefinition<_roost_v1_Setting, _roost_v1_Setting__Output>
      SettingProfile: MessageTypeDefinition<_roost_v1_SettingProfile, _roost_v1_SettingProfile__Output>
      ShutdownVmRequest: MessageTypeDefinition<_roost_v1_ShutdownVmRequest, _roost_v1_ShutdownVmRequest__Output>
      ShutdownVmResponse: MessageTypeDefinition<_roost_v1_ShutdownVmResponse, _roost_v1_ShutdownVmResponse__Output>
      StartVmRequest: MessageTypeDefinition<_roost_v1_StartVmRequest, _roost_v1_StartVmRequest__Output>
      StartVmResponse: MessageTypeDefinition<_roost_v1_StartVmResponse, _roost_v1_StartVmResponse__Output>
      StopAgentRequest: MessageTypeDefinition<_roost_v1_StopAgentRequest, _roost_v1_StopAgentRequest__Output>
      StopAgentResponse: MessageTypeDefinition<_roost_v1_StopAgentResponse, _roost_v1_StopAgentResponse__Output>
      StrandedVm: MessageTypeDefinition<_roost_v1_StrandedVm, _roost_v1_StrandedVm__Output>
      TableDifference: MessageTypeDefinition<_roost_v1_TableDifference, _roost_v1_TableDifference__Output>
      Task: MessageTypeDefinition<_roost_v1_Task, _roost_v1_Task__Output>
      TaskError: MessageTypeDefinition<_roost_v1_TaskError, _roost_v1_TaskError__Output>
      TaskService: SubtypeConstructor<typeof grpc.Client, _roost_v1_TaskServiceClient> & { service: _roost_v1_TaskServiceDefinition }
      TaskStep: MessageTypeDefinition<_roost_v1_TaskStep, _roost_v1_TaskStep__Output>
      TaskWait: MessageTypeDefinition<_roost_v1_TaskWait, _roost_v1_TaskWait__Output>
      TestFencingRequest: MessageTypeDefinition<_roost_v1_TestFencingRequest, _roost_v1_TestFencingRequest__Output>
      TestFencingResponse: MessageTypeDefinition<_roost_v1_TestFencingResponse, _roost_v1_TestFencingResponse__Output>
      TestedFenceDevice: MessageTypeDefinition<_roost_v1_TestedFenceDevice, _roost_v1_TestedFenceDevice__Output>
      Token: MessageTypeDefinition<_roost_v1_Token, _roost_v1_Token__Output>
      UnaskedNode: MessageTypeDefinition<_roost_v1_UnaskedNode, _roost_v1_UnaskedNode__Output>
      UndrainNodeRequest: MessageTypeDefinition<_roost_v1_UndrainNodeRequest, _roost_v1_UndrainNodeRequest__Output>
      UndrainNodeResponse: MessageTypeDefinition<_roost_v1_UndrainNodeResponse, _roost_v1_UndrainNodeResponse__Output>
      UnpauseVmRequest: MessageTypeDefinition<_roost_v1_UnpauseVmRequest, _roost_v1_UnpauseVmRequest__Output>
      UnpauseVmResponse: MessageTypeDefinition<_roost_v1_UnpauseVmResponse, _roost_v1_UnpauseVmResponse__Output>
      UnsetFencingRequest: MessageTypeDefinition<_roost_v1_UnsetFencingRequest, _roost_v1_UnsetFencingRequest__Output>
      UnsetFencingResponse: MessageTypeDefinition<_roost_v1_UnsetFencingResponse, _roost_v1_UnsetFencingResponse__Output>
      UpdatePolicyRequest: MessageTypeDefinition<_roost_v1_UpdatePolicyRequest, _roost_v1_UpdatePolicyRequest__Output>
      UpdatePolicyResponse: MessageTypeDefinition<_roost_v1_UpdatePolicyResponse, _roost_v1_UpdatePolicyResponse__Output>
      UpdateSettingRequest: MessageTypeDefinition<_roost_v1_UpdateSettingRequest, _roost_v1_UpdateSettingRequest__Output>
      UpdateSettingResponse: MessageTypeDefinition<_roost_v1_UpdateSettingResponse, _roost_v1_UpdateSettingResponse__Output>
      VerifiedNode: MessageTypeDefinition<_roost_v1_VerifiedNode, _roost_v1_VerifiedNode__Output>
      VerifiedTable: MessageTypeDefinition<_roost_v1_VerifiedTable, _roost_v1_VerifiedTable__Output>
      VerifyClusterRequest: MessageTypeDefinition<_roost_v1_VerifyClusterRequest, _roost_v1_VerifyClusterRequest__Output>
      VerifyClusterResponse: MessageTypeDefinition<_roost_v1_VerifyClusterResponse, _roost_v1_VerifyClusterResponse__Output>
      Vm: MessageTypeDefinition<_roost_v1_Vm, _roost_v1_Vm__Output>
      VmDefinition: MessageTypeDefinition<_roost_v1_VmDefinition, _roost_v1_VmDefinition__Output>
      VmService: SubtypeConstructor<typeof grpc.Client, _roost_v1_VmServiceClient> & { service: _roost_v1_VmServiceDefinition }
      WatchEventsRequest: MessageTypeDefinition<_roost_v1_WatchEventsRequest, _roost_v1_WatchEventsRequest__Output>
      WatchEventsResponse: MessageTypeDefinition<_roost_v1_WatchEventsResponse, _roost_v1_WatchEventsResponse__Output>
      WatchTaskRequest: MessageTypeDefinition<_roost_v1_WatchTaskRequest, _roost_v1_WatchTaskRequest__Output>
      WatchTaskResponse: MessageTypeDefinition<_roost_v1_WatchTaskResponse, _roost_v1_WatchTaskResponse__Output>
      WatchVmRequest: MessageTypeDefinition<_roost_v1_WatchVmRequest, _roost_v1_WatchVmRequest__Output>
      WatchVmResponse: MessageTypeDefinition<_roost_v1_WatchVmResponse, _roost_v1_WatchVmResponse__Output>
      WhatIfMove: MessageTypeDefinition<_roost_v1_WhatIfMove, _roost_v1_WhatIfMove__Output>
      WhatIfNode: MessageTypeDefinition<_roost_v1_WhatIfNode, _roost_v1_WhatIfNode__Output>
      WhatIfRequest: MessageTypeDefinition<_roost_v1_WhatIfRequest, _roost_v1_WhatIfRequest__Output>
      WhatIfResponse: MessageTypeDefinition<_roost_v1_WhatIfResponse, _roost_v1_WhatIfResponse__Output>
      WhatIfStep: MessageTypeDefinition<_roost_v1_WhatIfStep, _roost_v1_WhatIfStep__Output>
      WhyNot: MessageTypeDefinition<_roost_v1_WhyNot, _roost_v1_WhyNot__Output>
      Zone: MessageTypeDefinition<_roost_v1_Zone, _roost_v1_Zone__Output>
    }
  }
}

